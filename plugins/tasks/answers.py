"""Counts of right and wrong answers. One that is undefined, or tied with a wrong answer, is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

import harness


class Sums:
    """Sums over ordered pairs of models, from which a score is made."""

    def __init__(self, models: Sequence[str]) -> None:
        self.numbers = {model: i for i, model in enumerate(models)}
        self.numerator, self.denominator = np.zeros((2, len(models), len(models)))
        self.n = 0

    def add(self, a: str, b: str, value: float) -> None:
        """One answer about model a and model b."""
        self.numerator[self.numbers[a], self.numbers[b]] += value
        self.denominator[self.numbers[a], self.numbers[b]] += 1
        self.n += 1

    def score(
        self, metric: str, family: str, higher_is_better: bool = True, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> harness.TaskScore:
        return harness.TaskScore(metric, family, self.numerator, self.denominator, self.n, higher_is_better, bounds)


def rank(values: Float[np.ndarray, " k"], right: int) -> int:
    """The rank of the right answer, from 1: all values that are as large, or undefined, come before it."""
    if np.isnan(values[right]):
        return len(values)
    return 1 + int(sum(not value < values[right] for i, value in enumerate(values) if i != right))


def reciprocal_rank(values: Float[np.ndarray, " k"], right: int) -> float:
    """The reciprocal of the right answer's rank; 0 if its value is undefined."""
    return 0.0 if np.isnan(values[right]) else 1 / rank(values, right)


def distance_of_answer(values: Float[np.ndarray, " k"], distances: Float[np.ndarray, " k"]) -> float:
    """The distance of the most alike from the right answer: the largest of several that are tied, or of all if any
    value is undefined.
    """
    candidates = values == values.max() if not np.isnan(values).any() else np.ones(len(values), dtype=bool)
    return float(distances[candidates].max())


def rank_correlation(values: Float[np.ndarray, " k"], truth: Float[np.ndarray, " k"]) -> float:
    """Spearman's ρ, ties at their mean rank (Kendall 1945); 0 where all values are equal, which orders nothing, and −1
    where any is undefined.
    """
    if np.isnan(values).any():
        return -1.0
    ranks = [_mean_ranks(side) for side in (values, truth)]
    spread = [side.std() for side in ranks]
    if not all(spread):
        return 0.0
    covariance = float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())))
    return covariance / float(spread[0] * spread[1])


def _mean_ranks(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def by_family(comparisons: harness.Comparisons, chosen: Sequence[str]) -> dict[str, list[str]]:
    """The models of the chosen families, of all if none is named; an unknown name is an error."""
    found: dict[str, list[str]] = {}
    for site in comparisons.sites:
        models = found.setdefault(site.family, [])
        if site.model not in models:
            models.append(site.model)
    for family in chosen:
        if family not in found:
            raise harness.ConfigError(f"families: no model is of family {family!r}; there are {', '.join(found)}.")
    return {family: models for family, models in found.items() if not chosen or family in chosen}


def trained_families(comparisons: harness.Comparisons, chosen: Sequence[str]) -> dict[str, list[str]]:
    """The models of the chosen families, of all if none is named, without untrained controls."""
    controls = {site.family for site in comparisons.sites if site.control_of is not None}
    return {family: models for family, models in by_family(comparisons, chosen).items() if family not in controls}


def places_of(comparisons: harness.Comparisons, model: str) -> list[int]:
    """The numbers of a model's sites, from the first layer to the last."""
    places = [i for i, site in enumerate(comparisons.sites) if site.model == model]
    return sorted(places, key=lambda i: comparisons.sites[i].layer)


def same_sites(comparisons: harness.Comparisons, family: str, models: Sequence[str]) -> None:
    """Raise where the models of a family are not read at the same sites."""
    sites = {model: {comparisons.sites[i].site for i in places_of(comparisons, model)} for model in models}
    for model, own in sites.items():
        if own != sites[models[0]]:
            raise harness.ConfigError(
                f"family {family!r}: {models[0]} and {model} are read at different sites. Give all models of a family "
                "the same sites, or models of another shape a family of their own."
            )
