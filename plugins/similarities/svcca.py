"""Singular vector canonical correlation analysis (Raghu et al. 2017, arXiv 1706.05806, section 2).

1. Centre the rows of each side, X [n, d1] and Y [n, d2]. With singular values s₁ ≥ s₂ ≥ …, keep the smallest number k
   of directions with Σ_{i≤k} s_i² ≥ variance · Σ s_i²: the share of variance, not of Σ s_i.
2. The canonical correlations ρ of the kept directions are the singular values of Λx^-½ Uxᵀ XᵀY Uy Λy^-½, where Λ and U
   are the k largest eigenvalues and their eigenvectors of XᵀX and of YᵀY: Λ = s².
3. SVCCA = mean of the min(kx, ky) correlations.

With kx + ky ≥ n some correlations are 1 whatever the rows are, with kx ≥ n − 1 all of them are: then there is no value.
From k near n on it is high for unrelated rows too; read it beside its value on shuffled rows.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.similarities import SvccaConfig
from plugins.similarities.moments import CentredMoments, MomentSimilarity, Scatter

_EPS = torch.finfo(torch.float64).eps
_CLIP = 1e-6


class Svcca(MomentSimilarity):
    """Mean canonical correlation of the directions that hold most of the variance; 1 for a side and itself."""

    higher_is_more_similar = True
    range = (0.0, 1.0)
    symmetric = True
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})

    def __init__(self, config: SvccaConfig) -> None:
        super().__init__()
        self.variance = config.variance

    def compute_from(self, moments: CentredMoments) -> float:
        """SVCCA from sums over the centred rows."""
        white_x, white_y = self._whitener("x", moments.x), self._whitener("y", moments.y)
        n_kept = white_x.shape[1], white_y.shape[1]
        if moments.n_rows - 1 <= max(n_kept):
            raise harness.Undefined(
                f"{moments.n_rows} rows are too few: {max(n_kept)} directions hold {self.variance:g} of a side's "
                "variance, and n − 1 or more directions of n rows correlate fully with any others"
            )
        correlations = torch.linalg.svdvals(white_x.T @ moments.xy @ white_y)
        if correlations.max() > 1 + _CLIP:
            raise harness.Undefined(
                f"a canonical correlation came out as {correlations.max():.6f}: the directions with the least variance "
                "are rounding error; take a smaller variance"
            )
        return float(correlations.clamp(max=1).mean())

    def _whitener(self, name: str, side: Scatter) -> Float[Tensor, "d k"]:
        """U Λ^-½ of the kept directions."""
        if not torch.isfinite(side.products).all():
            raise harness.Undefined(f"the scale of {name} leaves the range of float64; rescale it")
        values, vectors = side.eigen
        if not values[0] > 0:
            raise harness.Undefined(f"the rows of {name} are constant")
        # Smaller eigenvalues are rounding error of the largest: s² of directions that the rows do not have.
        rounding = max(side.n_rows, len(values)) * _EPS
        n_kept = int((values > rounding * values[0]).sum())
        shares = values[:n_kept].cumsum(0) / values[:n_kept].sum()
        n_kept = min(n_kept, 1 + int((shares < self.variance - rounding).sum()))
        return vectors[:, :n_kept] * values[:n_kept].rsqrt()
