"""How much of y a linear regression on x explains: R² of all columns of y together (Kornblith et al. 2019).

With centred rows X [n, d1] and Y [n, d2], which is regression with an intercept, and the orthonormal basis Q = X U Λ^-½
[n, r] of the columns of X, where r is their rank and Λ and U are eigenvalues and eigenvectors of XᵀX:

    R² = 1 − min_B ‖Y − XB‖²_F / ‖Y‖²_F = ‖QᵀY‖²_F / ‖Y‖²_F = ‖Λ^-½ Uᵀ XᵀY‖²_F / tr(YᵀY)

s(x, y) predicts y from x. Kornblith et al. (arXiv 1905.00414, table 1) write R² of X predicted from Y: s(y, x).

Estimates:
    in_sample: R² of the rows that the regression was fitted to, from 0 to 1. r/(n−1) for unrelated rows.
    gcv: R² of rows left out of the fit, one at a time, by generalised cross-validation (Golub, Heath & Wahba
        1979). Without row i, ŷ_i and the mean of y miss y_i by e_i / (1 − h_i) and (y_i − ȳ) · n/(n−1), e_i being the
        residual of the whole fit and h_i the leverage of the row; with every h_i at their mean, (r+1)/n,

            R²_gcv = 1 − (1 − R²) · ((n − 1)/(n − 1 − r))²

        It needs no choice of folds, keeps the invariances, and can be had from moments. From −∞ to 1: below 0, the
        mean predicts new rows better. Leaving out rows in turn gives the same where all leverages are equal, and less
        where a few rows (massive activations that are not masked) have most of the leverage.

Invertible maps of x change nothing; those of y do, because its columns count by their variance.
"""

from __future__ import annotations

import math

import harness
from plugins.similarities import LinearRegressionConfig
from plugins.similarities.canonical import whitener
from plugins.similarities.moments import CentredMoments, MomentSimilarity


class LinearRegression(MomentSimilarity):
    """R² of y from x; 1 for a side and itself."""

    higher_is_more_similar = True
    symmetric = False
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})

    def __init__(self, config: LinearRegressionConfig) -> None:
        super().__init__()
        self.is_validated = config.estimate == "gcv"

    @property
    def range(self) -> tuple[float, float]:
        """A regression can predict rows that it has not seen as badly as it likes."""
        return (-math.inf if self.is_validated else 0.0, 1.0)

    def compute_from(self, moments: CentredMoments) -> float:
        """R² from sums over the centred rows."""
        moments.check_spread()
        white_x = whitener(moments.x)
        rank, spare = white_x.shape[1], moments.n_rows - 1 - white_x.shape[1]
        if spare <= 0:
            raise harness.Undefined(
                f"{moments.n_rows} rows are too few: x has {rank} directions, and n − 1 of them fit any y; take more "
                "rows"
            )
        unexplained = max(0.0, 1 - float((white_x.T @ moments.xy).square().sum() / moments.y.products.trace()))
        return 1 - unexplained * (((moments.n_rows - 1) / spare) ** 2 if self.is_validated else 1)
