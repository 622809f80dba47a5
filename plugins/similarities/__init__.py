"""Specs of the built-in similarities. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass(frozen=True)
class CkaConfig:
    """How the kernel is made and how its HSIC is estimated.

    Args:
        kernel: `"linear"` (streams) or `"rbf"` (needs all rows at once).
        estimator: `"biased"` (Gretton et al. 2005) or `"debiased"` (Song et al. 2012; can be negative).
        bandwidth: σ of the RBF kernel, in medians of the off-diagonal distances of each side; `"linear"` has none.
    """

    kernel: Literal["linear", "rbf"] = "linear"
    estimator: Literal["biased", "debiased"] = "biased"
    bandwidth: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"bandwidth is {self.bandwidth}; give a positive number of median distances.")


@dataclass(frozen=True)
class JaccardConfig:
    """What makes two atoms the same: one token (of one tokenizer), or one end in the text (of any tokenizer)."""

    key: Literal["token", "end"] = "token"


SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="similarity",
        name="cka",
        version=1,
        summary="Centred kernel alignment, linear or RBF, biased or debiased",
        config=CkaConfig,
        factory="plugins.similarities.cka:make",
    ),
    harness.Spec(
        kind="similarity",
        name="jaccard",
        version=1,
        summary="Share of dictionary atoms that two decompositions chose from the same places in the text",
        config=JaccardConfig,
        factory="plugins.similarities.jaccard:Jaccard",
        needs=("atoms",),
    ),
]
