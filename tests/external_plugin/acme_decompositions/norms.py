"""Are the same rows long in both representations?"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness


class Norms:
    """Pearson correlation between the norms of aligned rows."""

    higher_is_more_similar = True
    range = (-1.0, 1.0)
    symmetric = True
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "permutation"})
    streams = False
    max_rows = 1_000_000

    def __init__(self, config: object) -> None:
        """The harness calls every factory with a config; this one has no parameters."""

    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        norms = torch.stack([x.double().norm(dim=1), y.double().norm(dim=1)])
        if (norms.std(dim=1) <= 1e-12 * norms.mean(dim=1)).any():
            raise harness.Undefined("all rows of one side have the same norm")
        return float(torch.corrcoef(norms)[0, 1])
