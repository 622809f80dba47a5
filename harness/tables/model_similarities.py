"""Similarities of whole models, from those of all their sites: three scores for every two models, each with its null.

S(i, j) is the similarity of site i of the one model and site j of the other; where it is not symmetric, the mean of
both directions. A score of a distance is a distance.

    union       S of all sites of either model taken together: of their rows side by side, or of the union of their
                atoms without the names of the sites (Leask et al. 2025, arXiv 2505.17769, its comparison of models).
                Present if the suite says `whole_models: true`.
    best_layer  ½ (mean_i best_j S(i, j) + mean_j best_i S(i, j)), `best` being the largest S or the least distance.
                Huh et al. 2024 (arXiv 2405.07987) take the best of all pairs; here every site has its own. The best of
                many is large by luck too, so it is to be read against its null.
    same_depth  ½ (mean_i S(i, ·) + mean_j S(·, j)), each site with that of its kind whose relative depth is nearest;
                where two are equally near, the mean of both. The relative depth of layer l of L is l / (L − 1), as in
                task `depth_matching`. Where L of either model is not known, the k-th of the K sites that a model has
                of a kind is at k / (K − 1).

The null of a score is the same score of the nulls: of shuffled rows in the one direction there is, or of what chance
gives. A score that needs a pair of sites without a value has none, and says why.

Where the suite asks for random pairings, a score is also calibrated as one number (`comparing/calibration.py`): its
k-th null is the same score of all values under the k-th pairing of the rows of both models, which is one for all their
sites. So what the choice of the best of many layers adds is in the null, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from harness.comparing.calibration import Calibrated, calibrate
from harness.contracts.sites import parse_site
from harness.planning.entries import ModelEntry
from harness.planning.plan import Plan
from harness.planning.whole_models import is_whole
from harness.tables.permuted import Permuted, PermutedOfCell
from harness.tables.task_board import CONTENDER

SCORES = ("union", "best_layer", "same_depth")
MODEL_SIMILARITY_COLUMNS = [
    *CONTENDER,
    "score",
    "model",
    "model_b",
    "value",
    "null",
    "p_value",
    "calibrated",
    "higher_is_better",
    "seeds",
    "error",
]
_VALUES = ("similarity", "similarity_reversed")
_NULLS = ("null_shuffled_rows", "chance")

Matrix: TypeAlias = Float[np.ndarray[Any, Any], "a b"]
Near: TypeAlias = Bool[np.ndarray[Any, Any], "a b"]
Depth: TypeAlias = tuple[str, Fraction]
"""The kind of a site and its relative depth."""


@dataclass
class _Compared:
    """The values and nulls for the sites of two models, by one similarity and seed."""

    sites: tuple[Sequence[str], Sequence[str]]
    numbers: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """Numbers by metric and both sites; NaN for an undefined one."""
    permuted: dict[tuple[str, str, str], Permuted] = field(default_factory=dict)
    """Values of the same under random pairings of the rows."""
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    """Reasons why two sites have no value."""
    whole: tuple[str, str] | None = None
    """The names that stand for all sites of each model, if these were compared together."""
    has_pairs: bool = False

    def of(self, metrics: Sequence[str], a: str, b: str) -> float:
        """The mean of the given metrics, as far as two sites have them; NaN if they have none."""
        known = [self.numbers[metric, a, b] for metric in metrics if (metric, a, b) in self.numbers]
        return sum(known) / len(known) if known else np.nan

    def matrix(self, metrics: Sequence[str]) -> Matrix:
        """The mean of the given metrics for every pair of sites; NaN for a pair that has none."""
        return np.array([[self.of(metrics, a, b) for b in self.sites[1]] for a in self.sites[0]])

    def under(self, k: int, a: str, b: str) -> float:
        """The mean over both directions of the values of two sites under pairing k; NaN if they have none."""
        known = [self.permuted[metric, a, b].values[k] for metric in _VALUES if (metric, a, b) in self.permuted]
        return sum(known) / len(known) if known else np.nan

    def matrix_under(self, k: int) -> Matrix:
        """The values of every pair of sites under pairing k; NaN for a pair that has none."""
        return np.array([[self.under(k, a, b) for b in self.sites[1]] for a in self.sites[0]])

    def why(self, needed: Near) -> str | None:
        """The reason why a score that needs these pairs has no value; None if they all have one."""
        a_sites, b_sites = self.sites
        missing = np.argwhere(needed & np.isnan(self.matrix(_VALUES)))
        if not len(missing):
            return None
        a, b = a_sites[missing[0][0]], b_sites[missing[0][1]]
        reason = self.reasons.get((a, b), "they were not compared")
        return f"{len(missing)} of {needed.sum()} pairs of sites have no value; {a} and {b}: {reason}"


@dataclass(frozen=True)
class _Score:
    value: float
    null: float
    reason: str | None = None
    """Reason why there is no value."""
    calibrated: Calibrated | None = None
    """The value beside those of random pairings, where there are any."""


def model_similarities(plan: Plan, similarity: pd.DataFrame, permuted: Mapping[str, PermutedOfCell]) -> pd.DataFrame:
    """One line per similarity (and method, budget), score and two models; means over seeds, null where one has none.

    Args:
        plan: the plan whose models are compared.
        similarity: the table `similarity`.
        permuted: values under random pairings, by cell.
    """
    order = {model.label: place for place, model in enumerate(plan.suite.models)}
    scored: dict[tuple[Any, ...], list[_Score]] = defaultdict(list)
    directions, compared = _compared(similarity, plan.suite.models, order, permuted)
    for (subject, _, a, b), known in compared.items():
        models = plan.suite.models[order[a]], plan.suite.models[order[b]]
        for name, score in _scores(known, models, directions.get(subject, True)):
            scored[(subject, name, a, b)].append(score)
    subjects = {subject: i for i, subject in enumerate(dict.fromkeys(key[0] for key in scored))}

    def place(key: tuple[Any, ...]) -> tuple[int, ...]:
        subject, name, a, b = key
        return subjects[subject], SCORES.index(name), order[a], order[b]

    lines = []
    for subject, name, a, b in sorted(scored, key=place):
        found = scored[subject, name, a, b]
        rest = directions.get(subject, True), len(found), next((each.reason for each in found if each.reason), None)
        lines.append((*subject, name, a, b, *_means(found), *_beside(found), *rest))
    board = pd.DataFrame(lines, columns=MODEL_SIMILARITY_COLUMNS)
    numbers = dict.fromkeys(("value", "null", "p_value", "calibrated"), "float64")
    types = {"fit_tokens": "Int64", **numbers, "higher_is_better": "boolean"}
    return board.astype(types)


def best_layer(alike: Matrix, higher_is_better: bool) -> float:
    """The mean over sites of their best value, averaged over both models; NaN if a pair has no value."""
    best = np.max if higher_is_better else np.min
    return float((best(alike, axis=1).mean() + best(alike, axis=0).mean()) / 2)


def same_depth(alike: Matrix, near: Near, near_b: Near) -> float:
    """The mean over sites of their value with the nearest site, averaged over both models.

    Args:
        alike: the similarities S(i, j) of the sites.
        near: for each site of the first model, which sites of the second are nearest to it.
        near_b: for each site of the second model, which sites of the first are nearest to it; it has S's shape too.
    """
    sides = [(alike, near), (alike.T, near_b.T)]
    means = [np.mean([row[chosen].mean() for row, chosen in zip(*side, strict=True)]) for side in sides]
    return float(sum(means) / 2)


def nearest(sites: Sequence[Depth], others: Sequence[Depth]) -> Near:
    """True where no other site of the same kind is nearer in depth; a site whose kind the others lack has none."""
    near = np.zeros((len(sites), len(others)), dtype=bool)
    for i, (kind, depth) in enumerate(sites):
        away = {j: abs(depth - other) for j, (other_kind, other) in enumerate(others) if other_kind == kind}
        near[i, [j for j, distance in away.items() if distance == min(away.values())]] = True
    return near


def depths(one: ModelEntry, other: ModelEntry) -> tuple[list[Depth], list[Depth]]:
    """Depths of the sites of two models: by layers if both say how many they have, else by the order of the sites."""
    by_layers = bool(one.shape and other.shape)
    return _depths(one, by_layers), _depths(other, by_layers)


def _depths(model: ModelEntry, by_layers: bool) -> list[Depth]:
    sites = [parse_site(site) for site in model.sites]
    if by_layers and model.shape:
        return [(site.kind, Fraction(site.layer, max(1, model.shape["n_layers"] - 1))) for site in sites]
    layers = {kind: sorted(site.layer for site in sites if site.kind == kind) for kind in {site.kind for site in sites}}
    own = [(site.kind, layers[site.kind]) for site in sites]
    return [
        (kind, Fraction(known.index(site.layer), max(1, len(known) - 1)))
        for (kind, known), site in zip(own, sites, strict=True)
    ]


def _scores(
    known: _Compared, models: tuple[ModelEntry, ModelEntry], higher_is_better: bool
) -> Iterator[tuple[str, _Score]]:
    beside = partial(_calibrated, known, higher_is_better)
    if known.whole:
        whole = known.whole
        value, null = known.of(_VALUES, *whole), known.of(_NULLS, *whole)
        yield "union", _Score(value, null, known.reasons.get(whole), beside(value, lambda k: known.under(k, *whole)))
    if not known.has_pairs:
        return
    values, nulls = known.matrix(_VALUES), known.matrix(_NULLS)
    best = best_layer(values, higher_is_better), best_layer(nulls, higher_is_better)
    of_best = beside(best[0], lambda k: best_layer(known.matrix_under(k), higher_is_better))
    yield "best_layer", _Score(*best, known.why(np.ones(values.shape, dtype=bool)), of_best)
    of_a, of_b = depths(*models)
    near, near_b = nearest(of_a, of_b), nearest(of_b, of_a).T
    if not (near.any(axis=1).all() and near_b.any(axis=0).all()):
        yield "same_depth", _Score(np.nan, np.nan, "one has sites of a kind that the other lacks")
        return
    same = same_depth(values, near, near_b), same_depth(nulls, near, near_b)
    of_same = beside(same[0], lambda k: same_depth(known.matrix_under(k), near, near_b))
    yield "same_depth", _Score(*same, known.why(near | near_b), of_same)


def _calibrated(
    known: _Compared, higher_is_better: bool, value: float, under: Callable[[int], float]
) -> Calibrated | None:
    """A score beside the same score under each pairing; None if there are none, or one of them is not known."""
    some = next(iter(known.permuted.values()), None)
    permuted = [under(k) for k in range(len(some.values))] if some else []
    if some is None or not np.isfinite([value, *permuted]).all():
        return None
    return calibrate(value, permuted, higher_is_better, some.best)


def _compared(
    table: pd.DataFrame,
    models: Sequence[ModelEntry],
    order: Mapping[str, int],
    permuted: Mapping[str, PermutedOfCell],
) -> tuple[dict[Any, bool], dict[Any, _Compared]]:
    """True if higher is more alike, by similarity; and the numbers, by similarity, seed and both models in order."""
    is_known = table["metric"].isin([*_VALUES, *_NULLS]) | table["metric"].isna()
    wanted = table[is_known & (table["model"] != table["model_b"])]
    sides = ["model", "model_b", "site", "site_b"]
    names = ["cell", *CONTENDER, "seed", *sides, "metric", "value", "error", "higher_is_better"]
    wanted = wanted[names].assign(whole=is_whole(wanted["site"])).astype(object)
    directions: dict[Any, bool] = {}
    found: dict[Any, _Compared] = {}
    lines: Any = wanted.where(wanted.notna(), None).itertuples(index=False)
    for line in lines:
        subject = tuple(getattr(line, name) for name in CONTENDER)
        a, b, pair = line.model, line.model_b, (line.site, line.site_b)
        if order[a] > order[b]:
            a, b, pair = b, a, pair[::-1]
        both = models[order[a]].sites, models[order[b]].sites
        known = found.setdefault((subject, line.seed, a, b), _Compared(both))
        if line.metric is not None:
            known.numbers[(line.metric, *pair)] = np.nan if line.value is None else line.value
        for metric, values in permuted.get(line.cell, {}).items():
            known.permuted[(metric, *pair)] = values
        if line.value is None and line.metric not in _NULLS:
            known.reasons[pair] = line.error
        if line.metric == "similarity" and line.higher_is_better is not None:
            directions[subject] = line.higher_is_better
        if line.whole:
            known.whole = pair
        known.has_pairs |= not line.whole
    return directions, found


def _beside(scores: Sequence[_Score]) -> tuple[float, float]:
    """The p-value and the calibrated score; NaN where there are none, and for several seeds, whose fits have none."""
    found = scores[0].calibrated if len(scores) == 1 else None
    if found is None:
        return np.nan, np.nan
    return found.p_value, np.nan if found.score is None else found.score


def _means(scores: Sequence[_Score]) -> tuple[float, float]:
    """Means over seeds of the value and of the null; NaN where a seed has none."""
    return float(np.mean([score.value for score in scores])), float(np.mean([score.null for score in scores]))
