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

In a run float32 rows are multiplied in float32 first, and XᵀX in float64 always: so the basis is exact, and rounding E
of XᵀY moves R² by 2⟨B, E⟩ + ‖QᵀE‖² over ‖Y‖², B = U Λ⁻¹ Uᵀ XᵀY being the regression's coefficients. Where entries of E
are independent and of size η‖x_i‖‖y_j‖, columns of the rows as they are multiplied, around their pilots, that is some

    2η √Σ B_ij² ‖x_i‖² ‖y_j‖² / ‖Y‖² + η² Σ ‖x_i‖² (U Λ⁻¹ Uᵀ)_ii Σ ‖y_j‖² / ‖Y‖²

Of the sides tried (SmolLM2's rows rotated, few, with a mean of 3,000; one direction with most of the variance;
eigenvalues over 10 orders) η was 1e-9 to 5e-8. It is taken as 5e-7, and pairs for which this gives more than 1e-6 are
multiplied again in float64; the others were off by 4e-9 at most, sides of which each column has two values by 2e-7.
Where columns are nearly collinear, so that moments in float64 do not give R² to 1e-6 either, the two differed by up to
1e-4.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities import LinearRegressionConfig
from harness.plugins.similarities.canonical import whitener
from harness.plugins.similarities.centred_moments import CentredMoments, Imprecise
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import MomentSimilarity

_ROUNDING = 5e-7
_LARGEST_ERROR = 1e-6


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
        if not moments.is_exact and (error := inflation * _error(white_x, projected, moments)) > _LARGEST_ERROR:
            raise Imprecise(f"products in float32 leave R² an error of up to {error:.0e}")
        unexplained = max(0.0, 1 - float(projected.square().sum()) / moments.y.trace)
        return 1 - unexplained * inflation


def _error(white_x: Float[Tensor, "d1 r"], projected: Float[Tensor, "r d2"], moments: CentredMoments) -> float:
    """The error that rounding of XᵀY may have brought into R²."""
    z_x, z_y = moments.x.pilot_squares, moments.y.pilot_squares
    coefficients = white_x @ projected
    linear = 2 * math.sqrt(z_x @ coefficients.square() @ z_y) / moments.y.trace
    quadratic = float(z_x @ white_x.square().sum(dim=1)) * float(z_y.sum()) / moments.y.trace
    return _ROUNDING * (linear + _ROUNDING * quadratic)
