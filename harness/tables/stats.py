"""Intervals and tiers: how much of a difference between methods is more than luck with documents and seeds.

A metric of one method is the mean over seeds of a ratio of sums over documents, R = Σ n_d / Σ d_d. A document's part in
its error is (n_d − R d_d) / Σ d_d, the mean over seeds, divided by √(1 − 2 w_d + Σ w²) with w its share of Σ d: that
makes Σ parts² unbiased where documents' own ratios n_d/d_d vary alike, however uneven their lengths (MacKinnon & White
1985, HC2). Its degrees of freedom are 1/Σw² − 1, the number of documents of equal length that tell as much, less one.
Where ratios rise or fall with w they are fewer: `intervals` says how many, how often the truth is held then, what
skewness documents bring, and makes intervals of it all. One seed gives no interval.

Tiers rest on which methods `comparisons` can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from harness.tables.comparisons import apart
from harness.tables.intervals import Replicates, depends_on, kish, skewness_of, skewness_of_ratios
from harness.tables.intervals import interval as interval

MIN_DOCUMENTS = 10
MIN_MODELS = 3


@dataclass(frozen=True)
class Measured:
    """A metric of one method in every seed, as sums over the same documents."""

    numerators: Float[np.ndarray, "seeds documents"]
    denominators: Float[np.ndarray, "seeds documents"]

    @property
    def n_seeds(self) -> int:
        return len(self.numerators)

    @property
    def n_documents(self) -> int:
        """The number of documents that hold rows."""
        return int(self.denominators.any(axis=0).sum())

    @property
    def value(self) -> float:
        """The metric: the mean over seeds of its ratio of sums."""
        return float((self.numerators.sum(axis=1) / self.denominators.sum(axis=1)).mean())


def replicates(methods: Sequence[Measured], bounds: tuple[float, float] = (-np.inf, np.inf)) -> list[Replicates | None]:
    """The value of each method, with its errors by document and seed.

    None for one seed, and where fewer than `MIN_DOCUMENTS` documents hold a method's rows: too few to stand for others.
    Where no bounds are known, whole numbers from 0 to the denominators are counts, and their ratios shares between 0
    and 1.
    """
    if not methods:
        return []
    held = np.asarray(np.vstack([one.denominators for one in methods]).astype(bool).any(axis=0))
    if not np.isfinite(bounds).any():
        bounds = _bounds([(one.numerators, one.denominators) for one in methods])
    has_enough = [one.n_seeds > 1 and one.n_documents >= MIN_DOCUMENTS for one in methods]
    return [_replicates(one, held, bounds) if enough else None for one, enough in zip(methods, has_enough, strict=True)]


def _bounds(sums: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """The range of shares if these are numbers of things counted among a whole number of others, else none."""
    for part, whole in sums:
        if not ((part == np.round(part)) & (whole == np.round(whole)) & (part >= 0) & (part <= whole)).all():
            return -np.inf, np.inf
    return 0.0, 1.0


def _replicates(method: Measured, held: Bool[np.ndarray, " documents"], bounds: tuple[float, float]) -> Replicates:
    n, numerators, denominators = method.n_seeds, method.numerators[:, held], method.denominators[:, held]
    totals = denominators.sum(axis=1, keepdims=True)
    by_seed = numerators.sum(axis=1, keepdims=True) / totals
    error = (numerators - by_seed * denominators) / totals
    weights = (denominators / totals).mean(axis=0)
    leverage = 1 - 2 * weights + (weights**2).sum()
    apart_from_mean = ((error - error.mean(axis=0)) ** 2 / leverage).sum()
    n_units = kish(weights)
    own = weights != 0  # of the documents that some method has rows of, those that this one has too
    own_ratios, parts = numerators.sum(axis=0)[own] / denominators.sum(axis=0)[own], error.mean(axis=0)
    rests_on_few = depends_on(own_ratios, weights[own])
    return Replicates(
        value=float(by_seed.mean()),
        parts=parts / np.sqrt(leverage),
        n_units=n_units,
        freedom=max(1.0, (kish(weights**2) if rests_on_few else n_units) - 1),
        skewness=skewness_of(parts[own]) if rests_on_few else skewness_of_ratios(own_ratios, weights[own]),
        n_seeds=n,
        seed_variance=float(by_seed.var(ddof=1) / n),
        residual_variance=float(apart_from_mean / (n * (n - 1))),
        bounds=bounds,
    )


def tiers(
    means: Sequence[float], values: Sequence[Replicates | None], rivals: Sequence[Sequence[int]] | None = None
) -> list[int | None]:
    """Tiers: 1 for the largest mean and all that can't be told from it, 2 for the best of the rest, and so on.

    So whatever can't be told from the best is in tier 1, and no member of a tier can be told from its best. A method
    without replicates has no tier. The pairs of all rivals are judged together.

    Args:
        means: the larger the better.
        values: of the same methods; which of two is the larger does not matter here.
        rivals: for each method the numbers of those that it is ranked among, its own too; all if None.
    """
    every = range(len(means))
    boards = [
        tuple(sorted((j for j in (rivals[i] if rivals else every) if values[j] is not None), key=lambda j: -means[j]))
        for i in every
    ]
    ranked = [i for i in every if values[i] is not None]
    place = {i: k for k, i in enumerate(ranked)}
    pairs = sorted({(place[i], place[j]) for board in set(boards) for i in board for j in board if i < j})
    are_apart = apart([own for own in values if own is not None], pairs)
    found = {board: _tiers(board, lambda i, j: bool(are_apart[place[i], place[j]])) for board in set(boards)}
    return [found[board].get(i) for i, board in enumerate(boards)]


def _tiers(board: Sequence[int], are_apart: Callable[[int, int], bool]) -> dict[int, int]:
    """The tier of each method of a board, the best first."""
    found: dict[int, int] = {}
    rest, tier = list(board), 0
    while rest:
        tier += 1
        found |= {i: tier for i in rest if not are_apart(rest[0], i)}
        rest = [i for i in rest if i not in found]
    return found


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """True where no other point costs at most as much and is worth at least as much, one of them strictly."""
    points = list(zip(costs, values, strict=True))
    return [not any(other != own and other[0] <= own[0] and other[1] >= own[1] for other in points) for own in points]


@dataclass(frozen=True)
class OfModels:
    """A score as a ratio of sums over ordered pairs of models; what belongs to one model stands on the diagonal."""

    numerator: Float[np.ndarray, "models models"]
    denominator: Float[np.ndarray, "models models"]
    bounds: tuple[float, float] | None = None
    """The lowest and the highest score there can be; None: those of shares where sums are counts, else none."""

    @property
    def value(self) -> float:
        return float(self.numerator.sum() / self.denominator.sum())

    @property
    def has_part(self) -> Bool[np.ndarray, " models"]:
        """True for models that anything was asked about."""
        return np.asarray(self.denominator.any(axis=0) | self.denominator.any(axis=1))


def model_replicates(score: OfModels) -> Replicates | None:
    """A score with its errors by model: the jackknife's (Tukey 1958), with 1/Σw² − 1 degrees of freedom.

    w is a model's share of all denominators, half of a pair's being either model's: of m models that count alike these
    are m − 1. Without a model a score loses all pairs that it is in, so what pairs have in common counts in full. Of m
    numbers, one for each model, this is Student's interval of their mean. Where pairs differ more by luck of their own
    than by their models, the jackknife's variance is too large (Efron & Stein 1981), up to four times for three models:
    they can't tell one from the other. None for fewer than `MIN_MODELS` models, and where a model is in all pairs:
    nothing then says what another in its place would give.
    """
    m = int(score.has_part.sum())
    if m < MIN_MODELS:
        return None
    sums = []
    for matrix in (score.numerator, score.denominator):
        own = matrix[np.ix_(score.has_part, score.has_part)]
        sums.append(own.sum() - own.sum(axis=0) - own.sum(axis=1) + own.diagonal())
    if not sums[1].all():
        return None
    without = sums[0] / sums[1]
    parts = np.zeros(len(score.has_part))
    parts[score.has_part] = (without.mean() - without) * np.sqrt((m - 1) / m)
    bounds = _bounds([(score.numerator, score.denominator)]) if score.bounds is None else score.bounds
    numerators, denominators = (sums + sums.T for sums in (score.numerator, score.denominator))
    weights = denominators.sum(axis=1)[score.has_part]
    skewness = skewness_of_ratios(numerators.sum(axis=1)[score.has_part] / weights, weights)
    n_units = kish(weights)
    return Replicates(score.value, parts, n_units, max(1.0, n_units - 1), skewness, bounds=bounds)
