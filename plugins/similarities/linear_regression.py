"""Share of y that a linear regression on x explains: R² of all columns of y together (Kornblith et al. 2019).

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

With the regression's coefficients B = W Wᵀ XᵀY, W the whitener of x, rounding E of the products moves R² by
(2⟨B, Exy⟩ − ⟨BBᵀ, Exx⟩ + ‖Wᵀ Exy‖² + …) over ‖Y‖². In a run float32 rows are multiplied in float32 first, and XᵀX in
float64 always; pairs for which `rounding` leaves more than 1e-6 are multiplied again in float64. The others were off by
4e-9 at most, sides of which each column has two values by 2e-7. Where columns are so nearly collinear that float64
leaves as much, there is no value; where they are collinear but for some millionths of their norms, they count as such.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities import LinearRegressionConfig
from harness.plugins.similarities.canonical import whitener
from harness.plugins.similarities.centred_moments import CentredMoments
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import MomentSimilarity
from harness.plugins.similarities.rounding import ROUNDING_64, check_error, rounding_of, size


class LinearRegression(MomentSimilarity):
    """R² of y from x; 1 for a side and itself."""

    higher_is_more_similar = True
    symmetric = False
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})

    statistics = FloatMoments

    def __init__(self, config: LinearRegressionConfig) -> None:
        super().__init__()
        self.is_validated = config.estimate == "gcv"

    @property
    def range(self) -> tuple[float, float]:
        """The range of R²; without a lower end for unseen rows, which a regression can predict arbitrarily badly."""
        return (-math.inf if self.is_validated else 0.0, 1.0)

    def value(self, moments: CentredMoments) -> float:
        """R² from sums over the centred rows."""
        moments.check_spread()
        white_x = whitener(moments.x)
        rank, spare = white_x.shape[1], moments.n_rows - 1 - white_x.shape[1]
        if spare <= 0:
            raise harness.Undefined(
                f"{moments.n_rows} rows are too few: x has {rank} directions, and n − 1 of them fit any y; take more "
                "rows"
            )
        inflation = ((moments.n_rows - 1) / spare) ** 2 if self.is_validated else 1
        projected = white_x.T @ moments.xy
        error = inflation * _error(white_x, projected, moments)
        check_error(
            error, moments, "some directions of x have next to no variance; leave out columns that others add up to"
        )
        unexplained = max(0.0, 1 - float(projected.square().sum()) / moments.y.trace)
        return 1 - unexplained * inflation


def _error(white_x: Float[Tensor, "d1 r"], projected: Float[Tensor, "r d2"], moments: CentredMoments) -> float:
    """The error that rounding of the products may have brought into R²."""
    x, y, rounding = moments.x, moments.y, rounding_of(moments)
    coefficients = white_x @ projected / math.sqrt(y.trace)
    linear = rounding * 2 * size(coefficients, x, y) / math.sqrt(y.trace)
    own = ROUNDING_64 * size(coefficients @ coefficients.T, x, x)
    ends = float(x.pilot_squares @ white_x.square().sum(dim=1))
    quadratic = rounding**2 * ends * float(y.pilot_squares.sum()) / y.trace + (ROUNDING_64 * ends) ** 2
    return linear + own + quadratic
