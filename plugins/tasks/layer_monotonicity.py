"""Layer monotonicity: are layers of one model the less alike the further apart they are?

    violation_rate = share of layers i < j < k with not S(i, j) > S(i, k), and of those with not S(j, k) > S(i, k)

(Klabunde et al. 2024, arXiv 2408.00531, test 6, who count ties as right, so that a constant never errs, and so does an
undefined value; here both are violations.) `rank_correlation` is the mean over layers i of Spearman's ρ of S(i, ·) with
−|i − j| over the other layers, where these differ in distance.
"""

from __future__ import annotations

import itertools

import numpy as np

import harness
from harness.plugins.tasks import FamiliesConfig
from harness.plugins.tasks.answers import Sums, by_family, places_of, rank_correlation


class LayerMonotonicity:
    """One set of scores for each family, of models with three or more sites."""

    metric = "violation_rate"

    def __init__(self, config: FamiliesConfig) -> None:
        self.families = config.families

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        found = []
        for family, models in by_family(comparisons, self.families).items():
            violations, correlation = Sums(comparisons.models), Sums(comparisons.models)
            for model in models:
                places = places_of(comparisons, model)
                alike = comparisons.alike[np.ix_(places, places)]
                for i, j, k in itertools.combinations(range(len(places)), 3):
                    violations.add(model, model, float(not alike[i, j] > alike[i, k]))
                    violations.add(model, model, float(not alike[k, j] > alike[k, i]))
                for i in range(len(places)):
                    others = np.delete(np.arange(len(places)), i)
                    distances = np.abs(others - i)
                    if len(set(distances)) > 1:  # layers that are equally far can't be put in order
                        correlation.add(model, model, rank_correlation(alike[i, others], -distances))
            if violations.n:
                found.append(violations.score("violation_rate", family, higher_is_better=False))
                found.append(correlation.score("rank_correlation", family, bounds=(-1.0, 1.0)))
        if not found:
            raise harness.Undefined("no model has three sites")
        return found
