"""Intervals and tiers: how much of a difference between methods is more than luck with documents and seeds.

A metric of one method is the mean over seeds of a ratio of sums over documents. Each replicate of the bootstrap
(Efron 1979) draws documents anew, the same for all methods, so that differences are paired (Koehn 2004). Seeds are too
few to be drawn anew: from three, the interval would cover the truth 80 times in 100. To each replicate is added what
the mean of s seeds with standard deviation σ may be off by: σ/√s times a number of Student's t with s−1 degrees of
freedom, drawn for each method on its own. One seed gives no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

N_REPLICATES = 2000
LEVEL = 0.95
MIN_DOCUMENTS = 10
MIN_MODELS = 3
_SEED = 0


@dataclass(frozen=True)
class Measured:
    """A metric of one method in every seed, as sums over the same documents."""

    numerators: Float[np.ndarray, "seeds documents"]
    denominators: Float[np.ndarray, "seeds documents"]

    @property
    def n_seeds(self) -> int:
        return len(self.numerators)

    @property
    def value(self) -> float:
        """The metric: the mean over seeds of its ratio of sums."""
        return float((self.numerators.sum(axis=1) / self.denominators.sum(axis=1)).mean())


Replicates: TypeAlias = Float[np.ndarray, " replicates"]


def replicates(methods: Sequence[Measured]) -> list[Replicates | None]:
    """The bootstrap's values of each method, replicate by replicate on the same documents.

    None for one seed, and for all where fewer than `MIN_DOCUMENTS` documents hold rows: too few to stand for others.
    """
    if not methods:
        return []
    held = np.vstack([method.denominators for method in methods]).astype(bool).max(axis=0)
    n_documents = int(held.sum())
    if n_documents < MIN_DOCUMENTS:
        return [None] * len(methods)
    shares = np.full(n_documents, 1 / n_documents)
    drawn = np.random.default_rng(_SEED).multinomial(n_documents, shares, N_REPLICATES).astype(float)
    return [_replicates(method, held, drawn, np.random.default_rng([_SEED, i])) for i, method in enumerate(methods)]


def _replicates(
    method: Measured,
    held: Bool[np.ndarray, " documents"],
    drawn: Float[np.ndarray, "replicates held_documents"],
    generator: np.random.Generator,
) -> Replicates | None:
    n = method.n_seeds
    if n < 2:
        return None
    by_seed = (drawn @ method.numerators[:, held].T) / (drawn @ method.denominators[:, held].T)
    error = by_seed.std(axis=1, ddof=1) / np.sqrt(n) * generator.standard_t(n - 1, size=N_REPLICATES)
    return np.asarray(by_seed.mean(axis=1) + error)


def interval(values: Replicates) -> tuple[float, float]:
    """The ends of the central interval that holds a share `LEVEL` of the replicates."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def tiers(means: Sequence[float], values: Sequence[Replicates | None]) -> list[int | None]:
    """Tiers: 1 for the largest mean and all that can't be told from it, 2 for the best of the rest, and so on.

    Two methods can be told apart if the interval of their paired difference leaves out 0. A method without
    replicates has no tier.
    """
    ranked = [i for i, own in enumerate(values) if own is not None]
    ranked.sort(key=lambda i: means[i], reverse=True)
    found: list[int | None] = [None] * len(means)
    leader, tier = None, 0
    for i in ranked:
        if leader is None or _differ(values[leader], values[i]):
            leader, tier = i, tier + 1
        found[i] = tier
    return found


def _differ(a: Replicates | None, b: Replicates | None) -> bool:
    assert a is not None and b is not None  # only methods with replicates are ranked
    low, high = interval(a - b)
    return low > 0 or high < 0


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """True where no other point costs at most as much and is worth at least as much, one of them strictly."""
    points = list(zip(costs, values, strict=True))
    return [not any(other != own and other[0] <= own[0] and other[1] >= own[1] for other in points) for own in points]


@dataclass(frozen=True)
class OfModels:
    """A score as a ratio of sums over ordered pairs of models; what belongs to one model stands on the diagonal."""

    numerator: Float[np.ndarray, "models models"]
    denominator: Float[np.ndarray, "models models"]

    @property
    def value(self) -> float:
        return float(self.numerator.sum() / self.denominator.sum())


def model_replicates(score: OfModels) -> Replicates | None:
    """The values of a score on models drawn anew with replacement; the same draws for every score of the same models.

    A pair counts as often as both its models were drawn, a model paired with itself as often as it was. Drawing m
    models from m spreads too little, and few models say little of their spread: deviations are multiplied by √(m/(m−1))
    and by √((m−1)/χ²) with χ² of m−1 degrees of freedom, drawn for each replicate, which makes Student's t of them. In
    simulated families of 5 or 10 models 95 % intervals then held the truth 90 to 99 times in 100; 3 models that all
    agree still give an interval of no width. None for fewer than `MIN_MODELS` models.
    """
    has_part = score.denominator.any(axis=0) | score.denominator.any(axis=1)
    m = int(has_part.sum())
    if m < MIN_MODELS:
        return None
    drawn = np.random.default_rng(_SEED).multinomial(m, np.full(m, 1 / m), N_REPLICATES).astype(float)
    sums = []
    for matrix in (score.numerator, score.denominator):
        own = matrix[np.ix_(has_part, has_part)]
        between = own - np.diag(own.diagonal())
        sums.append(((drawn @ between) * drawn).sum(axis=1) + drawn @ own.diagonal())
    # A draw of one model alone has no pairs; the value over all models stands in for its own.
    values = np.divide(sums[0], sums[1], out=np.full(N_REPLICATES, score.value), where=sums[1] > 0)
    chi_squared = np.random.default_rng([_SEED, 1]).chisquare(m - 1, size=N_REPLICATES)
    return np.asarray(score.value + np.sqrt(m / chi_squared) * (values - values.mean()))
