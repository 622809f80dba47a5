"""Sample size: how far is the value of few rows from that of all?

Of neighbouring sites the first n/8, n/4 and n/2 rows are compared, and all n:

    error = mean |S(of some) − S(of all)|,  error_eighth the same of n/8 alone

on the scale of tasks. An undefined value is off by 1. The error says nothing of bias that n rows still have: see
null_calibration.
"""

from __future__ import annotations

import math

import harness
from harness.plugins.tasks import RowsConfig
from harness.plugins.tasks.answers import Sums
from harness.plugins.tasks.changed_rows import alike_or_nothing, neighbouring_sites

_PARTS = (8, 4, 2)


class SampleSize:
    """One set of scores for each family."""

    metric = "error"

    def __init__(self, config: RowsConfig) -> None:
        self.config = config

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        found: dict[str, dict[str, Sums]] = {}
        for family, model, x, y in neighbouring_sites(comparisons, self.config):
            metrics = ("error", "error_eighth")
            sums = found.setdefault(family, {metric: Sums(comparisons.models) for metric in metrics})
            of_all = alike_or_nothing(comparisons, x, y)
            for part in _PARTS:
                n = len(x) // part
                value = alike_or_nothing(comparisons, x[:n], y[:n])
                error = 1.0 if value is None or of_all is None else abs(value - of_all)
                sums["error"].add(model, model, error)
                if part == _PARTS[0]:
                    sums["error_eighth"].add(model, model, error)
        return [
            score.score(metric, family, higher_is_better=False, bounds=(0.0, math.inf))
            for family, scores in found.items()
            for metric, score in scores.items()
        ]
