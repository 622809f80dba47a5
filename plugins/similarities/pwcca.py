"""Projection-weighted canonical correlation analysis (Morcos et al. 2018, arXiv 1806.05759).

1. Centre the rows of each side, X [n, d1] and Y [n, d2]. The canonical correlations are ρ_1 … ρ_k, k the smaller rank,
   and h_1 … h_k [n] are the canonical variates of one side, orthonormal: h_i = X w_i.
2. A direction weighs as much as the columns x_j [n] of that side project on it: α_i = Σ_j |⟨h_i, x_j⟩|.
3. PWCCA = Σ α_i ρ_i / Σ α_i (Kornblith et al. 2019, arXiv 1905.00414, table 1, writes it so).

The rows themselves are not needed: ⟨h_i, x_j⟩ = (w_iᵀ XᵀX)_j, and w_i = U Λ^-½ a_i, where Λ and U are the eigenvalues
and eigenvectors of XᵀX and a_i is the i-th singular vector of Λx^-½ Uxᵀ XᵀY Uy Λy^-½.

Conventions. All k directions are compared, nothing is truncated; all and only these share the weight, so that weights
sum to 1 from the side of larger rank too. The weights are of one side, so s(x, y) ≠ s(y, x): that of smaller rank, or x
where they are equal, unless `side` names one. It is a similarity; the paper plots the distance 1 − PWCCA.

Invertible maps of the other side change nothing. On the side that weighs, rotations do: α_i sums over columns.
Where correlations are equal, which variates stand for them is anyone's choice, and the weights with it: there is no
value, unless all are equal. So it is where both sides have directions in common, such as columns that one has copied
from the other, and with kx + ky > n, where two or more correlations are 1 whatever the rows are.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities import PwccaConfig
from harness.plugins.similarities.canonical import Correlations
from harness.plugins.similarities.centred_moments import CentredMoments
from harness.plugins.similarities.moments import MomentSimilarity

# The choice of variates moves the value by less than the range of the correlations.
_SAME = 1e-6
# Largest difference of correlations that are equal but for rounding.
_EQUAL = 1e-8


class Pwcca(MomentSimilarity):
    """Mean canonical correlation, weighted by a direction's share of one side; 1 for a side and itself."""

    higher_is_more_similar = True
    range = (0.0, 1.0)
    symmetric = False
    invariant_to = frozenset({"isotropic_scale", "translation", "permutation"})

    def __init__(self, config: PwccaConfig) -> None:
        super().__init__()
        self.side = config.side

    def value(self, moments: CentredMoments) -> float:
        """PWCCA from sums over the centred rows."""
        found = Correlations.of(moments)
        rank_x, rank_y = found.white_x.shape[1], found.white_y.shape[1]
        _check_distinct(found.values, rank_x, rank_y, moments.n_rows)
        if self.side == "x" or (self.side == "smaller" and rank_x <= rank_y):
            projections = (found.white_x @ found.a).T @ moments.x.products
        else:
            projections = (found.white_y @ found.b).T @ moments.y.products
        weights = projections.abs().sum(dim=1)
        return found.mean(weights / weights.sum())


def _check_distinct(values: Float[Tensor, " k"], rank_x: int, rank_y: int, n_rows: int) -> None:
    """Refuse correlations, largest first, of which some are equal and others are not."""
    if values[0] - values[-1] < _SAME:
        return
    if rank_x + rank_y > n_rows:
        raise harness.Undefined(
            f"{n_rows} rows are too few for {rank_x} and {rank_y} directions: two or more correlations are 1 whatever "
            "the rows are, and their weights are arbitrary; take more rows than both have directions"
        )
    are_equal = values[:-1] - values[1:] < _EQUAL
    if are_equal.any():
        first = values[:-1][are_equal][0]
        n_equal = int(((values - first).abs() < _EQUAL).sum())
        raise harness.Undefined(
            f"{n_equal} of {len(values)} correlations are equal ({first:.6g}), so their weights are arbitrary: the "
            "sides have directions in common, or rows that repeat; leave these out, or take svcca, where all weigh 1"
        )
