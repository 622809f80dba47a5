"""Faithfulness: how much of a behaviour is left where all but some nodes are at their mean.

F(C) = (m(C) − m(∅)) / (m(M) − m(∅)) (Marks et al. 2403.19647): m(M) of the model as it is, m(∅) with all nodes and all
errors at their mean. Errors are at their mean in m(C) too: what they carry no latent does. Means are over both sides of
the pairs that circuits are found on, by place from the end; F is measured on pairs of other groups. Sums over groups
make it a ratio, Σ_g (m_g(C) − m_g(∅)) / Σ_g (m_g(M) − m_g(∅)).

CPR is the area under F over the logarithm of the number of nodes, from 1 to 500, and CMD that of |1 − F| (Mueller et
al. 2504.13151, whose sizes are linear, so that the largest rule): parts that work against a behaviour make F exceed 1,
which CPR rewards and CMD does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.circuits.limits import LEVEL, SIZES
from harness.circuits.trials import Means, Trials

N_RANDOM = 20
"""Random sets of active nodes of each size, at least; each group of pairs meets sets of its own."""


@dataclass(frozen=True)
class Share:
    """A ratio of sums over groups."""

    numerator: Float[np.ndarray, " g"]
    denominator: Float[np.ndarray, " g"]

    @property
    def value(self) -> float | None:
        whole = float(self.denominator.sum())
        return float(self.numerator.sum()) / whole if whole else None


class Faithfulness:
    """Measures F on the pairs of trials."""

    def __init__(self, trials: Trials, means: Mapping[str, Means]) -> None:
        self.trials, self.means = trials, means
        self.full = self._by_group(trials.unedited())
        self.empty = self._by_group(self._ablated([]))

    def of(self, nodes: Sequence[int] | Bool[Tensor, "... n"]) -> Share:
        """F of the nodes alone, errors at their mean."""
        return self._share(self._by_group(self._ablated(nodes)))

    def without(self, nodes: Sequence[int]) -> Share:
        """F of all but these nodes, errors kept: what is left of the behaviour without a circuit (completeness)."""
        keep = ~self._mask(nodes)
        return self._share(self._by_group(self.trials.ablated(keep, self.means, with_errors=True)))

    def curve(self, order: Int[Tensor, " n"]) -> dict[int, Share]:
        """F of the first nodes of an order, by their number; of all of them where there are fewer."""
        return {size: self.of(order[:size].tolist()) for size in SIZES}

    def random_curve(self, active: Bool[Tensor, " n"], seed: int) -> dict[int, Share]:
        """F of random active nodes: the mean over sets."""
        pairs, pool = self.trials.pairs, active.nonzero()[:, 0]
        n_draws = math.ceil(N_RANDOM / pairs.n_groups)
        generator = torch.Generator().manual_seed(seed)
        total = {size: np.zeros(pairs.n_groups) for size in SIZES}
        for _ in range(n_draws):
            orders = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(pairs.n_groups)]
            for size in SIZES:
                keep = torch.stack([self._mask(order[:size].tolist()) for order in orders])
                total[size] += self._by_group(self._ablated(keep[pairs.group_of])) / n_draws
        return {size: self._share(found) for size, found in total.items()}

    def _ablated(self, nodes: Sequence[int] | Bool[Tensor, "... n"]) -> Float[Tensor, " b"]:
        return self.trials.ablated(nodes if isinstance(nodes, Tensor) else self._mask(nodes), self.means)

    def _mask(self, nodes: Sequence[int]) -> Bool[Tensor, " n"]:
        mask = torch.zeros(self.trials.n_nodes, dtype=torch.bool)
        mask[list(nodes)] = True
        return mask

    def _by_group(self, values: Float[Tensor, " b"]) -> Float[np.ndarray, " g"]:
        return np.asarray(self.trials.pairs.by_group(values))

    def _share(self, found: Float[np.ndarray, " g"]) -> Share:
        return Share(found - self.empty, self.full - self.empty)


def nodes_for_level(curve: Mapping[int, Share]) -> int | None:
    """The smallest of the sizes at which F is at least `LEVEL`; None if none is."""
    return next((size for size, share in curve.items() if (share.value or 0.0) >= LEVEL), None)


def cpr(curve: Mapping[int, Share]) -> Share:
    """The area under F over log sizes, as a share of the sizes' range: by trapezoids, F(sizes) being weighted."""
    weights = _weights(list(curve))
    numerators = sum(weight * share.numerator for weight, share in zip(weights, curve.values(), strict=True))
    return Share(np.asarray(numerators), next(iter(curve.values())).denominator)


def cmd(curve: Mapping[int, Share]) -> float | None:
    """The area of |1 − F| over log sizes, as a share of the sizes' range; None where F has no value."""
    found = [share.value for share in curve.values()]
    if any(value is None for value in found):
        return None
    return float(np.abs(1 - np.array(found, dtype=float)) @ _weights(list(curve)))


def _weights(sizes: Sequence[int]) -> Float[np.ndarray, " s"]:
    """Weights of the trapezoidal rule over log sizes, which add up to 1."""
    steps = np.diff(np.log(sizes))
    weights: Float[np.ndarray, " s"] = np.zeros(len(sizes))
    weights[:-1] += steps
    weights[1:] += steps
    weights /= weights.sum()
    return weights
