"""Canonical correlations of two representations from their moments (Hotelling 1936; Björck & Golub 1973).

With Λ and U the largest eigenvalues and their eigenvectors of XᵀX, over centred rows, the whitener W = U Λ^-½ makes
XW an orthonormal basis of what x says in those directions. The canonical correlations ρ are the singular values of
Wxᵀ XᵀY Wy, and its singular vectors A and B give the canonical variates X Wx A and Y Wy B, which are orthonormal too.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities.centred_moments import CentredMoments, Scatter

_EPS = torch.finfo(torch.float64).eps
CLIP = 1e-6
"""Rounding error of a correlation from products in float64."""


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
    """The whitener U Λ^-½ of the kept directions."""
    values, vectors = side.eigen
    # Smaller eigenvalues are rounding error of the largest: s² of directions that the rows do not have.
    rounding = max(side.n_rows, len(values)) * _EPS
    n_kept = int((values > rounding * values[0]).sum())
    shares = values[:n_kept].cumsum(0) / values[:n_kept].sum()
    n_kept = min(n_kept, 1 + int((shares < variance - rounding).sum()))
    return vectors[:, :n_kept] * values[:n_kept].rsqrt()


def clipped(correlations: Float[Tensor, " k"], rounding: float = CLIP) -> Float[Tensor, " k"]:
    """Clip correlations to 1, if they exceed it by no more than rounding."""
    if correlations.max() > 1 + rounding:
        raise harness.Undefined(
            f"a canonical correlation came out as {correlations.max():.6f}: the directions with the least variance "
            "are rounding error; leave them out (svcca with a smaller variance)"
        )
    return correlations.clamp(max=1)
