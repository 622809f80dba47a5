"""Depth matching: is a layer most alike to the layer of equal relative depth in a model of another depth or width?

The relative depth of layer l of a model of L layers is l / (L − 1). For every layer i of a and every b of another
family the answer is the layer of b most alike to it, and right is the layer of b whose relative depth is nearest:

    depth_error = mean |relative depth of the answer − relative depth of i|
    accuracy    = mean [the answer is nearest, or as near as the nearest]

`rank_correlation` is the mean of Spearman's ρ of S(a, i; b, ·) with −|difference of relative depths|. Nguyen, Raghu &
Kornblith 2021 (arXiv 2010.15327) show that equal relative depth is a tendency and no law: this is a soft target.
"""

from __future__ import annotations

import itertools

import numpy as np

import harness
from harness.plugins.tasks import FamiliesConfig
from harness.plugins.tasks.answers import Sums, distance_of_answer, places_of, rank_correlation, trained_families


class DepthMatching:
    """One set of scores over all pairs of models of different families, untrained controls left out."""

    metric = "depth_error"

    def __init__(self, config: FamiliesConfig) -> None:
        self.families = config.families

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        families = trained_families(comparisons, self.families)
        depths = [_depth(site) for site in comparisons.sites]
        error, accuracy, correlation = (Sums(comparisons.models) for _ in range(3))
        for one, other in itertools.permutations(families, 2):
            for a, b in itertools.product(families[one], families[other]):
                places = places_of(comparisons, b)
                for i in places_of(comparisons, a):
                    distances = np.array([abs(depths[i] - depths[j]) for j in places])
                    found = distance_of_answer(comparisons.alike[i, places], distances)
                    error.add(a, b, found)
                    accuracy.add(a, b, float(found <= distances.min() + 1e-12))
                    correlation.add(a, b, rank_correlation(comparisons.alike[i, places], -distances))
        label = " × ".join(families)
        return [
            error.score("depth_error", label, higher_is_better=False),
            accuracy.score("accuracy", label),
            correlation.score("rank_correlation", label, bounds=(-1.0, 1.0)),
        ]


def _depth(site: harness.ComparedSite) -> float:
    if site.n_layers is None:
        raise harness.ConfigError(
            f"depth_matching: the number of layers of {site.model} is not known; give the model n_layers and width."
        )
    return site.layer / max(1, site.n_layers - 1)
