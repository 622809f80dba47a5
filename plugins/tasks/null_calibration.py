"""Null calibration: are unrelated rows said to have nothing in common?

    bias       = mean |S(a, i; b, j)| with b's rows in random order (for Jaccard: the value by chance)
    separation = share of the same layers of two models that are more alike than the same with rows in random order

on the scale of tasks, where 1 is equality and 0 nothing in common: a metric that says 0.4 of unrelated rows has a bias
of 0.4. Few rows of many dimensions make it large (Murphy, Zylberberg & Fyshe 2024, arXiv 2405.01012, of biased CKA).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

import harness
from harness.plugins.tasks import FamiliesConfig
from harness.plugins.tasks.answers import Sums, by_family, places_of, same_sites


class NullCalibration:
    """One set of scores for each family of two or more models."""

    metric = "bias"

    def __init__(self, config: FamiliesConfig) -> None:
        self.families = config.families

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        found = []
        for family, models in by_family(comparisons, self.families).items():
            same_sites(comparisons, family, models)
            bias, separation = Sums(comparisons.models), Sums(comparisons.models)
            for a, b in itertools.permutations(models, 2):
                places_b = places_of(comparisons, b)
                for layer, i in enumerate(places_of(comparisons, a)):
                    for j in places_b:
                        unrelated = abs(comparisons.unrelated[i, j])
                        bias.add(a, b, 1.0 if np.isnan(unrelated) else float(unrelated))
                    same = places_b[layer]
                    is_above = comparisons.alike[i, same] > comparisons.unrelated[i, same]
                    separation.add(a, b, float(is_above))
            if bias.n:
                found.append(bias.score("bias", family, higher_is_better=False, bounds=(0.0, math.inf)))
                found.append(separation.score("separation", family))
        if not found:
            raise harness.Undefined("no family has two models")
        return found
