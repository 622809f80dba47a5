"""Noise sensitivity: are rows the less alike to themselves the more noise is added to them?

The rows x of a site are compared with x + ε σ N, N standard normal and the same for all ε, σ² the mean variance of a
column, ε = 0.1, 0.2, 0.5, 1, 2, 5:

    violation_rate   = share of ε < ε' with not S(ε) > S(ε')
    rank_correlation = Spearman's ρ of S(ε) with −ε

Nothing is said of how fast the value should fall.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

import harness
from harness.plugins.tasks import RowsConfig
from harness.plugins.tasks.answers import Sums, rank_correlation
from harness.plugins.tasks.changed_rows import alike_or_nothing, neighbouring_sites

_LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class NoiseSensitivity:
    """One set of scores for each family."""

    metric = "violation_rate"

    def __init__(self, config: RowsConfig) -> None:
        self.config = config

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        found: dict[str, tuple[Sums, Sums]] = {}
        for family, model, _, x in neighbouring_sites(comparisons, self.config):
            violations, correlation = found.setdefault(family, (Sums(comparisons.models), Sums(comparisons.models)))
            generator = torch.Generator().manual_seed(self.config.seed)
            noise = torch.randn(x.shape, generator=generator).to(x) * x.double().var(dim=0).mean().sqrt().to(x)
            answers = [alike_or_nothing(comparisons, x, x + level * noise) for level in _LEVELS]
            values = np.array([np.nan if answer is None else answer for answer in answers])
            for less, more in itertools.combinations(values, 2):
                violations.add(model, model, float(not less > more))
            correlation.add(model, model, rank_correlation(values, -np.array(_LEVELS)))
        return [
            score
            for family, (violations, correlation) in found.items()
            for score in (
                violations.score("violation_rate", family, higher_is_better=False),
                correlation.score("rank_correlation", family, bounds=(-1.0, 1.0)),
            )
        ]
