"""Canonical correlations of two representations from their moments (Hotelling 1936; Björck & Golub 1973).

With Λ and U the largest eigenvalues and their eigenvectors of XᵀX, over centred rows, the whitener W = U Λ^-½ makes
XW an orthonormal basis of what x says in those directions. The canonical correlations ρ are the singular values of
Wxᵀ XᵀY Wy, and its singular vectors A and B give the canonical variates X Wx A and Y Wy B, which are orthonormal too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities.centred_moments import CentredMoments, Scatter
from harness.plugins.similarities.rounding import ROUNDING_64, check_error, rounding_of, size

_EPS = torch.finfo(torch.float64).eps
_LEAST_WIDTH = 512


def whiteners(moments: CentredMoments, variance: float = 1.0) -> tuple[Float[Tensor, "d1 kx"], Float[Tensor, "d2 ky"]]:
    """Wx and Wy of the fewest directions that hold this share of a side's variance; 1 keeps all that the rows have."""
    moments.check_spread()
    white_x, white_y = whitener(moments.x, variance), whitener(moments.y, variance)
    n_kept = max(white_x.shape[1], white_y.shape[1])
    if moments.n_rows - 1 <= n_kept:
        raise harness.Undefined(
            f"{moments.n_rows} rows are too few: {n_kept} directions of a side are compared, and n − 1 or more "
            "directions of n rows correlate fully with any others; take more rows, or svcca with a smaller variance"
        )
    return white_x, white_y


def whitener(side: Scatter, variance: float = 1.0) -> Float[Tensor, "d k"]:
    """The whitener of the kept directions: U Λ^-½, or if all are kept D^-½ U Λ^-½ of the columns over their norms D^½.

    The scale of a column is then no reason to leave it out; what is left out are eigenvalues that are no more than the
    rounding error of sums of d, at least 1e-13 of the largest: those of directions that the rows do not have. A column
    that others add up to within some millionths of its norm counts as one that they add up to.
    """
    values, vectors = side.eigen if variance < 1 else side.standardised_eigen
    rounding = max(_LEAST_WIDTH, len(values)) * _EPS
    n_kept = int((values > rounding * values[0]).sum())
    if variance < 1:
        shares = values[:n_kept].cumsum(0) / values[:n_kept].sum()
        n_kept = min(n_kept, 1 + int((shares < variance - rounding).sum()))
    return vectors[:, :n_kept] * values[:n_kept].rsqrt()


@dataclass(frozen=True)
class Correlations:
    """Canonical correlations ρ of the directions of two whiteners, largest first, with their singular vectors.

    M = Wxᵀ XᵀY Wy = A diag(ρ) Bᵀ, the correlations clipped to 1.
    """

    moments: CentredMoments
    white_x: Float[Tensor, "d1 kx"]
    white_y: Float[Tensor, "d2 ky"]
    a: Float[Tensor, "kx k"]
    values: Float[Tensor, " k"]
    b: Float[Tensor, "ky k"]

    @classmethod
    def of(cls, moments: CentredMoments, variance: float = 1.0) -> Correlations:
        """The correlations of the directions that hold this share of a side's variance."""
        white_x, white_y = whiteners(moments, variance)
        a, values, b = torch.linalg.svd(white_x.T @ moments.xy @ white_y, full_matrices=False)
        return cls(moments, white_x, white_y, a, values.clamp(max=1), b.T)

    def mean(self, weights: Float[Tensor, " k"]) -> float:
        """The mean with weights that sum to 1; refuses one that rounding may have moved by too much."""
        advice = "some directions have next to no variance; leave out columns that others add up to, or far rows"
        check_error(self._error(weights), self.moments, advice)
        return float(weights @ self.values)

    def _error(self, weights: Float[Tensor, " k"]) -> float:
        """The error of a mean.

        Where products change by E, M changes by dM = Wxᵀ Exy Wy − ½ Wxᵀ Exx Wx M − ½ M Wyᵀ Eyy Wy, and Σ w ρ by
        ⟨A diag(w) Bᵀ, dM⟩, to first order.
        """
        x, y, rounding = self.moments.x, self.moments.y, rounding_of(self.moments)
        of_x, of_y = self.white_x @ self.a, self.white_y @ self.b
        by_own = sum(
            size(of_side * (weights * self.values) @ of_side.T, side, side) for of_side, side in ((of_x, x), (of_y, y))
        )
        first = rounding * size(of_x * weights @ of_y.T, x, y) + ROUNDING_64 / 2 * by_own
        ends_x, ends_y = _ends(x, self.white_x), _ends(y, self.white_y)
        second = rounding**2 * ends_x * ends_y + ROUNDING_64**2 * (ends_x**2 + ends_y**2)
        return first + second * float(weights.max())


def largest_error(moments: CentredMoments, white_x: Float[Tensor, "d1 kx"], white_y: Float[Tensor, "d2 ky"]) -> float:
    """A bound of the error of the plain mean of the correlations, for which no singular vectors are needed.

    With equal weights w = 1/k, C = w Wx A Bᵀ Wyᵀ, and with A and B orthonormal ‖D_x C D_y‖ ≤ w ‖D_x Wx‖ ‖D_y Wy‖ for
    the norms of columns D; likewise for what the products of one side add.
    """
    ends_x, ends_y, rounding = _ends(moments.x, white_x), _ends(moments.y, white_y), rounding_of(moments)
    weight = 1 / min(white_x.shape[1], white_y.shape[1])
    first = rounding * math.sqrt(ends_x * ends_y) + ROUNDING_64 / 2 * (ends_x + ends_y)
    second = rounding**2 * ends_x * ends_y + ROUNDING_64**2 * (ends_x**2 + ends_y**2)
    return weight * (first + second)


def _ends(side: Scatter, white: Float[Tensor, "d k"]) -> float:
    """‖D W‖², D being the norms of the columns around the pilot."""
    return float(side.pilot_squares @ white.square().sum(dim=1))
