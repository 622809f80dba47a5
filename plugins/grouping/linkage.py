"""Average linkage (Sokal & Michener 1958) of a sparse graph of likenesses, without a matrix of all pairs.

The likeness of two groups is the mean over all pairs between them, pairs that the graph lacks counting as 0. The two
most alike groups are joined until no two have anything in common. Joining never makes a group more like a third than
the likest of its parts was, so nearest neighbours may be joined whenever they are each other's (the nearest-neighbour
chain, Murtagh 1983): the tree is the same, and sums of likenesses are all that has to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from harness.plugins.grouping.likeness import Likeness


@dataclass(frozen=True)
class Tree:
    """Joins of n leaves, from the most alike to the least."""

    n_leaves: int
    joined: Int[np.ndarray, "j 2"]
    """A leaf of either group."""
    heights: Float[np.ndarray, " j"]
    """The likeness at which they were joined, falling and above 0."""

    def above(self, height: float) -> Int[np.ndarray, " n"]:
        """The group of each leaf after all joins above a height; groups are numbered by their first leaves."""
        return self._groups(int(np.searchsorted(-self.heights, -height, side="left")))

    def into(self, n_groups: int) -> Int[np.ndarray, " n"]:
        """The group of each leaf once there are so many groups; more remain where nothing more was to be joined."""
        return self._groups(min(max(self.n_leaves - n_groups, 0), len(self.heights)))

    def _groups(self, n_joins: int) -> Int[np.ndarray, " n"]:
        roots = np.arange(self.n_leaves)

        def root(leaf: int) -> int:
            while roots[leaf] != leaf:
                roots[leaf] = roots[roots[leaf]]
                leaf = roots[leaf]
            return leaf

        for a, b in self.joined[:n_joins].tolist():
            first, second = sorted((root(a), root(b)))
            roots[second] = first
        return np.unique([root(leaf) for leaf in range(self.n_leaves)], return_inverse=True)[1]


def average_linkage(likeness: Likeness) -> Tree:
    """The tree of a graph."""
    groups = _Groups(likeness)
    joined, heights = [], []
    waiting = list(range(likeness.n_poles))[::-1]
    while waiting:
        chain = [waiting.pop()]
        while chain and chain[-1] in groups.sums:
            near, value = groups.nearest(chain)
            if near is None:  # it has nothing in common with any other
                break
            if len(chain) == 1 or near != chain[-2]:
                chain.append(near)
                continue
            joined.append((chain.pop(), chain.pop()))
            heights.append(value)
            waiting.append(groups.join(*joined[-1]))
    order = np.lexsort((np.arange(len(heights)), -np.array(heights)))
    return Tree(likeness.n_poles, np.array(joined, np.int64).reshape(-1, 2)[order], np.array(heights)[order])


class _Groups:
    """Groups of leaves, each known by one of them, with the sums of likenesses between them."""

    def __init__(self, likeness: Likeness) -> None:
        self.sums: dict[int, dict[int, float]] = {leaf: {} for leaf in range(likeness.n_poles)}
        self._sizes = [1] * likeness.n_poles
        pairs = zip(likeness.first.tolist(), likeness.second.tolist(), likeness.values.tolist(), strict=True)
        for a, b, value in pairs:
            self.sums[a][b] = self.sums[b][a] = value

    def nearest(self, chain: list[int]) -> tuple[int | None, float]:
        """The group most like the last of a chain, and how much: of several the one before it, or the first by name."""
        group, sizes = chain[-1], self._sizes
        own, sums = sizes[group], self.sums[group]
        before = chain[-2] if len(chain) > 1 else None
        best, largest = before, 0.0 if before is None else sums[before] / (own * sizes[before])
        for other, total in sums.items():
            value = total / (own * sizes[other])
            if value > largest or (value == largest and best is not None and best != before and other < best):
                best, largest = other, value
        return best, largest

    def join(self, a: int, b: int) -> int:
        """Join two groups, which go on under the name of the one that has more neighbours."""
        kept, gone = (a, b) if len(self.sums[a]) >= len(self.sums[b]) else (b, a)
        own, others = self.sums[kept], self.sums.pop(gone)
        del own[gone], others[kept]
        for other, total in others.items():
            of_other = self.sums[other]
            del of_other[gone]
            own[other] = of_other[kept] = own.get(other, 0.0) + total
        self._sizes[kept] += self._sizes[gone]
        return kept
