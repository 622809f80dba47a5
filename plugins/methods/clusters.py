"""Clusters of the latents of another fit: those that fire together, or that point the same way.

Poles that fire on 10 fit rows or more are joined by average linkage of their φ of firing, or of the cosines of their
directions (`grouping/likeness.py`): two different hierarchies. The tree is cut where chance would hardly join anything
(`grouping/significance.py`), or into a number of groups; those of three members or more are clusters. A member's weight
is its mean likeness to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.grouping.firing import Firing
from harness.plugins.grouping.likeness import Likeness, cofiring, cosine
from harness.plugins.grouping.linkage import average_linkage
from harness.plugins.grouping.significance import large_groups, null_height, random_directions
from harness.plugins.methods import ClustersConfig
from harness.plugins.methods.fit_firing import LearnerFromFit, member


class Clusters(LearnerFromFit):
    """Joins latents to clusters."""

    def __init__(self, config: ClustersConfig) -> None:
        self.config = config

    def groups(self, firing: Firing) -> Sequence[Sequence[harness.Member]]:
        firing = firing.alive()
        likeness = self._likeness(firing)
        tree, at = average_linkage(likeness), self.config.at
        groups = tree.above(self._null_height(firing)) if at is None else tree.into(at)
        if at is not None and (n_groups := groups.max(initial=-1) + 1) > at:
            raise harness.Undefined(
                f"{n_groups} groups of {self.config.of} have nothing in common; at is {at}: give more"
            )
        labels = large_groups(groups)
        if labels.max(initial=-1) < 0:
            chance = "more alike than chance makes them" if at is None else f"in one of {at} groups"
            raise harness.Undefined(f"no three latents of {self.config.of} are {chance}, by {self.config.by}")
        weights = mean_likeness(likeness, labels)
        return [
            [member(firing, int(pole), float(weights[pole])) for pole in np.flatnonzero(labels == group)]
            for group in range(labels.max() + 1)
        ]

    def _likeness(self, firing: Firing) -> Likeness:
        return cofiring(firing) if self.config.by == "cofiring" else cosine(self._directions(firing))

    def _null_height(self, firing: Firing) -> float:
        if self.config.by == "cofiring":
            generator = self.numpy_generator()
            return null_height(lambda: cofiring(firing.exchanged(generator)), len(firing.counts))
        directions, of_torch = self._directions(firing), self.info.generator("null")

        def draw(n: int, d: int) -> Float[Tensor, "p d"]:
            return torch.randn(n, d, generator=of_torch, dtype=torch.float64)

        return null_height(lambda: cosine(random_directions(directions, draw)), len(firing.counts))

    def _directions(self, firing: Firing) -> Float[Tensor, "p d"]:
        if self.base.dictionary is None:
            raise harness.Undefined(f"{self.config.of} has no dictionary, so its latents have no cosines")
        rows = self.base.dictionary.detach()[torch.from_numpy(firing.latents).to(self.info.device)]
        return rows * torch.from_numpy(firing.signs).to(rows)[:, None]


def mean_likeness(likeness: Likeness, labels: Int[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """The mean likeness of each pole to the others of its group; pairs that the graph lacks count as 0."""
    inside = (labels[likeness.first] == labels[likeness.second]) & (labels[likeness.first] >= 0)
    total: Float[np.ndarray, " p"] = np.zeros(len(labels))
    for end in (likeness.first, likeness.second):
        np.add.at(total, end[inside], likeness.values[inside])
    sizes = np.bincount(labels + 1)[labels + 1]
    total /= np.maximum(sizes - 1, 1)
    return total
