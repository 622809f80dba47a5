"""Training convergence: are checkpoints the more alike to the end of their training the later they are?

For checkpoints 1 to T of one run and every layer l, S(t) is how alike layer l at t is to layer l at T:

    violation_rate   = share of t < t' < T with not S(t') > S(t)
    rank_correlation = mean over layers of Spearman's ρ of S(t) with t, over t < T

Nothing forces training to go straight to its end; that later is more alike is how such curves have come out (Raghu et
al. 2017, arXiv 1706.05806; Leask et al. 2025, arXiv 2505.17769).
"""

from __future__ import annotations

import itertools

import numpy as np

import harness
from harness.plugins.tasks import TrainingConfig
from harness.plugins.tasks.answers import Sums, by_family, places_of, rank_correlation, same_sites


class TrainingConvergence:
    """One set of scores over all runs; what belongs to a run stands at its last checkpoint."""

    metric = "violation_rate"

    def __init__(self, config: TrainingConfig) -> None:
        self.ends = dict(zip(config.families, config.ends, strict=False))
        self.families = config.families

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        violations, correlation = Sums(comparisons.models), Sums(comparisons.models)
        runs = by_family(comparisons, self.families)
        for family, models in runs.items():
            *earlier, last = models if family not in self.ends else (*models, self.ends[family])
            same_sites(comparisons, family, [*earlier, last])
            if len(earlier) < 2:
                raise harness.ConfigError(f"training_convergence: family {family!r} needs two checkpoints and an end.")
            for layer, end in enumerate(places_of(comparisons, last)):
                alike = comparisons.alike[[places_of(comparisons, model)[layer] for model in earlier], end]
                for before, after in itertools.combinations(alike, 2):
                    violations.add(last, last, float(not after > before))
                correlation.add(last, last, rank_correlation(alike, np.arange(len(alike))))
        label = ", ".join(runs)
        return [
            violations.score("violation_rate", label, higher_is_better=False),
            correlation.score("rank_correlation", label, bounds=(-1.0, 1.0)),
        ]
