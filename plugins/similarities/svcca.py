"""Singular vector canonical correlation analysis (Raghu et al. 2017, arXiv 1706.05806, section 2).

1. Centre the rows of each side, X [n, d1] and Y [n, d2]. With singular values s₁ ≥ s₂ ≥ …, keep the smallest number k
   of directions with Σ_{i≤k} s_i² ≥ variance · Σ s_i²: the share of variance, not of Σ s_i.
2. The canonical correlations ρ of the kept directions are the singular values of Λx^-½ Uxᵀ XᵀY Uy Λy^-½, where Λ and U
   are the k largest eigenvalues and their eigenvectors of XᵀX and of YᵀY: Λ = s².
3. SVCCA = mean of the min(kx, ky) correlations.

With kx + ky ≥ n some correlations are 1 whatever the rows are, with kx ≥ n − 1 all of them are: then there is no value.
From k near n on it is high for unrelated rows too; read it beside its value on shuffled rows.

In a run float32 rows are multiplied in float32 first where variance ≤ .99; pairs for which `rounding` leaves more than
1e-6 are multiplied again in float64, and have no value where that leaves as much. Of the sides tried, values were
within 1e-7 of those of float64, or multiplied again, as rotations of each other are.

On a card with quick float64 the correlations come from Gram matrices, all pairs together, where that leaves less than
1e-6 (see `spectra`), else from the singular vectors, pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.plugins.similarities import SvccaConfig
from harness.plugins.similarities.canonical import Correlations, largest_error, whiteners
from harness.plugins.similarities.centred_moments import CentredMoments
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import JointMoments, MomentSimilarity
from harness.plugins.similarities.rounding import LARGEST_ERROR

_FLOAT_VARIANCE = 0.99


class Svcca(MomentSimilarity):
    """Mean canonical correlation of the directions that hold most of the variance; 1 for a side and itself."""

    higher_is_more_similar = True
    range = (0.0, 1.0)
    symmetric = True
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})

    def __init__(self, config: SvccaConfig) -> None:
        self.variance = config.variance
        self.statistics = FloatMoments if self.variance <= _FLOAT_VARIANCE else JointMoments
        super().__init__()

    def value(self, moments: CentredMoments) -> float:
        """SVCCA from sums over the centred rows."""
        found = Correlations.of(moments, self.variance)
        return found.mean(torch.full_like(found.values, 1 / len(found.values)))

    def compute_from(self, moments: CentredMoments) -> float | Callable[[], float]:
        """SVCCA; on some cards a function for it, to call when all pairs have been asked."""
        if moments.spectra is None or not moments.is_exact:
            return super().compute_from(moments)
        white_x, white_y = whiteners(moments, self.variance)
        if largest_error(moments, white_x, white_y) > LARGEST_ERROR / 2:
            return self.value(moments)
        take = moments.spectra.of(white_x.T @ moments.xy @ white_y)
        # Of values up to 1 none is off by more than 2e-7.
        return lambda: float(take().values.clamp(max=1).mean())
