"""Similarities as plain tables, whose right scores can be counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import harness


def sites_of(
    models: dict[str, str], n_layers: int = 3, control_of: dict[str, str] | None = None
) -> list[harness.ComparedSite]:
    """Every layer of every model; `models` gives each model's family."""
    return [
        harness.ComparedSite(family, model, f"resid_post.{layer}", layer, n_layers, (control_of or {}).get(family))
        for model, family in models.items()
        for layer in range(n_layers)
    ]


def comparisons(
    sites: list[harness.ComparedSite],
    alike: Callable[[harness.ComparedSite, harness.ComparedSite], float],
    unrelated: float = 0.0,
    compare: Callable[[Tensor, Tensor], float] | None = None,
    n_rows: int = 100,
) -> harness.Comparisons:
    """All pairs, from a function of two sites; rows are random numbers of their site."""
    values = np.array([[alike(a, b) for b in sites] for a in sites])

    def rows(i: int) -> Tensor:
        return torch.randn(n_rows, 6, generator=torch.Generator().manual_seed(i), dtype=torch.float64)

    return harness.Comparisons(
        sites, values, np.full_like(values, unrelated), lambda i, j: (rows(i), rows(j)), compare or _cannot_compare
    )


def scores_of(task: str, compared: harness.Comparisons, **params: object) -> dict[tuple[str, str], float]:
    """The value of each score, by metric and family."""
    found = harness.create("task", task, **params).score(compared)
    return {(score.metric, score.family): float(score.numerator.sum() / score.denominator.sum()) for score in found}


def _cannot_compare(x: Tensor, y: Tensor) -> float:
    raise harness.Undefined("nothing is compared here")
