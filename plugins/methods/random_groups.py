"""Random groups: the null of clusters.

Latents are sorted by how often they fire, and change places at random within blocks of `BLOCK` neighbours or a
few more in that order. So every group has as many members as its cluster, which fire about as often, and have hardly
more in common than chance gives: some stay, and a cluster's members of one block may change places with one another.
Any group looks more like a token than a single latent does, since it is shown on its strongest rows:
what clusters score must be read beside these.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import harness
from harness.plugins.grouping.firing import Firing
from harness.plugins.methods import RandomGroupsConfig
from harness.plugins.methods.fit_firing import LearnerFromFit, member

BLOCK = 64


class RandomGroups(LearnerFromFit):
    """Draws other members for the groups of a fit."""

    def __init__(self, config: RandomGroupsConfig) -> None:
        self.config = config

    def base_of(self, info: harness.Info) -> harness.Decomposition:
        grouped = super().base_of(info)
        if not isinstance(grouped, harness.GroupedDecomposition):
            raise harness.Undefined(f"{self.config.of} has no groups; let `of` name one that has, such as clusters")
        self._grouped = grouped
        return grouped.base

    def groups(self, firing: Firing) -> Sequence[Sequence[harness.Member]]:
        places = {
            pole: place for place, pole in enumerate(zip(firing.latents.tolist(), firing.signs.tolist(), strict=True))
        }
        chosen = [
            [places[own.latent, own.sign] for own in self._grouped.members(group) if (own.latent, own.sign) in places]
            for group in range(self._grouped.n_latents)
        ]
        drawn = self._exchanged(firing, np.array([place for group in chosen for place in group], dtype=np.int64))
        return [[member(firing, drawn[place], 1.0) for place in group] for group in chosen]

    def _exchanged(self, firing: Firing, used: np.ndarray) -> np.ndarray:
        """The pole in whose place each pole is put. Those that hardly fire stay out, unless groups have them."""
        is_drawn = firing.is_alive
        is_drawn[used] = True
        order = np.flatnonzero(is_drawn)
        order = order[np.argsort(firing.counts[order], kind="stable")]
        generator, found = self.numpy_generator(), np.arange(len(firing.counts))
        for block in np.array_split(order, max(1, len(order) // BLOCK)):
            found[block] = generator.permutation(block)
        return found
