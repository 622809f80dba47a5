"""Layer matching: is layer i of one model most alike to layer i of another that differs by its seed alone?

    accuracy = mean over ordered pairs of different models and layers i of [argmax_j S(a, i; b, j) = i]

(Kornblith et al. 2019, arXiv 1905.00414, section 6.1.) Layers are those of the suite, taken by the order of depth.
Beside it `accuracy_all_pairs`, which counts each model with itself too, as Leask et al. 2025 (arXiv 2505.17769, section
5.1) publish it: of m models these give 1/m for nothing. `reciprocal_rank` is the mean of 1 / the right layer's place
among b's layers, `layer_error` the mean of |argmax − i| over the number of b's layers less one, `rank_correlation`
Spearman's ρ of S(a, i; b, ·) with −|i − j|. By chance accuracy is 1 / the number of layers.
"""

from __future__ import annotations

import itertools

import numpy as np

import harness
from harness.plugins.tasks import FamiliesConfig
from harness.plugins.tasks.answers import (
    Sums,
    by_family,
    distance_of_answer,
    places_of,
    rank,
    rank_correlation,
    reciprocal_rank,
    same_sites,
)


class LayerMatching:
    """One set of scores for each family of two or more models."""

    metric = "accuracy"

    def __init__(self, config: FamiliesConfig) -> None:
        self.families = config.families

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        found = {family: models for family, models in by_family(comparisons, self.families).items() if len(models) > 1}
        if not found:
            raise harness.Undefined("no family has two models")
        return [score for family, models in found.items() for score in _scores(comparisons, family, models)]


def _scores(comparisons: harness.Comparisons, family: str, models: list[str]) -> list[harness.TaskScore]:
    same_sites(comparisons, family, models)
    accuracy, all_pairs, reciprocal, error, correlation = (Sums(comparisons.models) for _ in range(5))
    for a, b in itertools.product(models, repeat=2):
        places_a, places_b = places_of(comparisons, a), places_of(comparisons, b)
        for layer, place in enumerate(places_a):
            values = comparisons.alike[place, places_b]
            is_right = float(rank(values, layer) == 1)
            all_pairs.add(a, b, is_right)
            if a == b:
                continue
            distances = np.abs(np.arange(len(places_b)) - layer) / max(1, len(places_b) - 1)
            accuracy.add(a, b, is_right)
            reciprocal.add(a, b, reciprocal_rank(values, layer))
            error.add(a, b, distance_of_answer(values, distances))
            correlation.add(a, b, rank_correlation(values, -distances))
    return [
        accuracy.score("accuracy", family),
        all_pairs.score("accuracy_all_pairs", family),
        reciprocal.score("reciprocal_rank", family),
        error.score("layer_error", family, higher_is_better=False),
        correlation.score("rank_correlation", family, bounds=(-1.0, 1.0)),
    ]
