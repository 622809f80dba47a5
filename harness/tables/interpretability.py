"""Interpretability of each method: the scores of its sampled latents, taken together.

Only some latents are scored, drawn evenly from strata of density, so their mean is weighted: Σ w v / Σ w, with v the
score of a unit (a pole of a latent) and w the number of units that it stands for (Horvitz & Thompson 1952). It
estimates the mean over all units of the dictionary, each counting the same. The density-weighted mean Σ w d v / Σ w d,
with d the share of rows on which a unit's code is not 0, estimates the mean over codes: units count as often as they
are met. A line's value is the mean over seeds. Units whose score is undefined are counted and left out.

Intervals are over latents, stratum by stratum. With a_u the share of Σ w that unit u has and r_u = a_u (v_u − mean),
the part of a unit in the mean's error is r_u less its stratum's mean of r, times √(n_h/(n_h − 1)) for n_h units: Σ
parts² is the textbooks' variance of a stratified mean. Where a stratum has a single scored unit, strata are not told
apart. Degrees of freedom are those of a stratified mean (Satterthwaite 1946), where n_h units count as (Σa)²/Σa². Where
values rise or fall with density within strata they count as (Σa²)²/Σa⁴: `intervals` says why, and that density-weighted
means of 12 to 20 latents have intervals that are too narrow all the same if scores fall steeply with density.
Seeds have latents of their own, so all that their means vary by beyond the luck of latents is the seeds'; the module
`intervals` says how an interval is made of it. With one seed it is about latents alone, as `interval_over` says. An
interval ends where the metric's range does.

The lift is the score less the floor's on the same unit and against the same negatives, which the parameter `negatives`
of a scorer names; its interval is that of the paired differences. So is `difference_to_random`, the score less that of
another latent's explanation.

A judge is too weak for latents where chance lies in the interval of the mean that a scorer gets by asking it, or where
another latent's explanation does as well: 0 lies in the interval of the difference, or above it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from harness.tables.intervals import Replicates, depends_on, interval, kish, skewness_of

MIN_LATENTS = 10
"""Fewest units that must be scored in every seed for an interval."""
MIN_IN_STRATUM = 2
_BALANCED = "balanced_accuracy"
"""A metric that is shown beside a main metric, with an interval of its own, if a scorer gives it."""
_CONTROL = "_random_explanation"
FIT = ["family", "model", "site", "fit_tokens", "method", "method_config"]
SCORER = ["scorer", "scorer_config", "judge", "explainer"]
_LINE = [*FIT, *SCORER, "metric"]
_UNIT = ["seed", "latent", "sign"]
SHARES = [f"{name}_share_of_{units}" for name in ("dead", "rare", "no_contrast") for units in ("latents", "poles")]
"""Shares of latents, and of poles of latents, that are not scored, by the reason why."""
_COLUMNS = (
    *("value", "low", "high", "interval_over", "chance"),
    *("density_weighted", "density_weighted_low", "density_weighted_high"),
    *("balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high"),
    *("random_explanation", "random_explanation_low", "random_explanation_high"),
    *("difference_to_random", "difference_to_random_low", "difference_to_random_high"),
    *("floor", "lift", "lift_low", "lift_high", "n_latents", "n_undefined", "n_seeds"),
)

_NUMBERS = (
    *("value", "weight", "density", "chance", "lowest", "highest"),
    *(_BALANCED, "random_explanation", "difference_to_random", "floor", "lift"),
)

Seed: TypeAlias = Sequence[Float[np.ndarray, "3 units"]]
"""Units of one decomposition, an array for each stratum: their weights, their multiplicities (1, or their densities),
and their values."""


def interpretability(table: pd.DataFrame, floors: Collection[str]) -> pd.DataFrame:
    """One line per fit (seeds together) and scorer, and one for each other metric that the scorer wants a line of.

    Args:
        table: the table `interp`.
        floors: the scorers that the lift of the others is taken over, on the same metric.
    """
    units = scored_units(table, floors)
    # Arrays of all units, of which a line takes its own: a frame for each line would take most of the time.
    numbers = {name: units[name].to_numpy(dtype=float) for name in _NUMBERS}
    seed, stratum = (units[name].factorize(sort=True)[0] for name in ("seed", "stratum"))
    lines = []
    for key, own in units[_LINE].groupby(_LINE, sort=False, dropna=False):
        places = own.index.to_numpy()
        line = _Units({name: values[places] for name, values in numbers.items()}, seed[places], stratum[places])
        lines.append({**dict(zip(_LINE, key, strict=True)), **_line(line)})
    return pd.DataFrame(lines, columns=[*_LINE, *_COLUMNS]).merge(shares(table), on=FIT, how="left")


def judge_too_weak(line: Mapping[Any, Any]) -> str | None:
    """The reason why a judge is too weak for these latents; None if it is not, or if there is no interval to tell by.

    Args:
        line: a line of `interpretability` about a scorer that asked a judge.
    """
    low, high, chance = line["low"], line["high"], line["chance"]
    if pd.notna(low) and low <= chance <= high:
        return f"judge too weak: chance {chance:.3g} lies in [{low:.3g}, {high:.3g}]"
    low, high = line["difference_to_random_low"], line["difference_to_random_high"]
    if pd.notna(low) and low <= 0:
        return (
            f"judge too weak: another latent's explanation does as well, the difference is in [{low:.3g}, {high:.3g}]"
        )
    return None


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """One line per fit whose latents were read, scored or not, with the shares of those that can't be."""
    counted = table[table["scorer"].isna() & table["metric"].isin(SHARES)]
    means = counted.groupby([*FIT, "metric"], dropna=False, sort=False)["value"].mean()
    return means.unstack("metric", sort=False).reindex(columns=SHARES).reset_index()


def scored_units(table: pd.DataFrame, floors: Collection[str]) -> pd.DataFrame:
    """The main metric of each unit with every scorer, beside its control, its floor, and how far it is above them.

    Other metrics that a scorer wants a line of have rows too, without a chance level.
    """
    scored = table[table[["chance", "lowest", "highest"]].notna().any(axis=1)]  # main metrics have a chance
    scored = scored.assign(negatives=scored["scorer_config"].map(_negatives))
    controls = table[table["metric"].fillna("").str.endswith(_CONTROL)]
    controls = controls.assign(metric=controls["metric"].str.removesuffix(_CONTROL))
    of_floors = table[table["scorer"].isin(floors)]  # all metrics: what is main to a scorer may not be to its floor
    of_floors = of_floors.assign(negatives=of_floors["scorer_config"].map(_negatives))
    units = _beside(scored, controls, "random_explanation", _LINE)
    units = _beside(units, table[table["metric"] == _BALANCED], _BALANCED, [*FIT, *SCORER])
    units = _beside(units, of_floors, "floor", [*FIT, "metric", "negatives"])
    units["floor"] = units["floor"].mask(units["scorer"].isin(floors))  # a floor has no lift over itself
    above = units["value"] - units["random_explanation"]
    return units.assign(difference_to_random=above, lift=units["value"] - units["floor"])


def _negatives(scorer_config: str) -> str:
    """The choice of silent windows in a scorer's config; scorers without the parameter see random ones."""
    return str(json.loads(scorer_config).get("negatives", "random"))


def _beside(units: pd.DataFrame, others: pd.DataFrame, name: str, keys: list[str]) -> pd.DataFrame:
    """Add a column to units: the values that other rows have for the same unit."""
    keys = [*keys, *_UNIT]
    values = others[[*keys, "value"]].rename(columns={"value": name}).drop_duplicates(keys)
    return units.merge(values, on=keys, how="left")


@dataclass(frozen=True)
class _Units:
    """The units of one line, with numbers that stand for seeds and strata in their order."""

    numbers: Mapping[str, Float[np.ndarray, " units"]]
    seed: Int[np.ndarray, " units"]
    stratum: Int[np.ndarray, " units"]


def _line(units: _Units) -> dict[str, Any]:
    """The numbers of one line."""
    lowest, highest = (float(units.numbers[name][0]) for name in ("lowest", "highest"))
    bounds = (-np.inf if np.isnan(lowest) else lowest, np.inf if np.isnan(highest) else highest)
    width = bounds[1] - bounds[0]
    found: dict[str, Any] = {"chance": units.numbers["chance"][0]}
    for name, column, counts, limits in (
        ("value", "value", None, bounds),
        ("density_weighted", "value", "density", bounds),
        (_BALANCED, _BALANCED, None, (0.0, 1.0)),
        ("random_explanation", "random_explanation", None, bounds),
        ("difference_to_random", "difference_to_random", None, (-width, width)),
        ("lift", "lift", None, (-width, width)),
    ):
        seeds = _seeds(units, column, counts)
        values = replicates(seeds, limits)
        low, high = (None, None) if values is None else interval(values)
        prefix = "" if name == "value" else f"{name}_"
        found |= {name: mean(seeds), f"{prefix}low": low, f"{prefix}high": high}
        if name == "value" and values is not None:
            found["interval_over"] = "latents" if len(seeds) == 1 else "latents and seeds"
    n_scored, n_units = int((~np.isnan(units.numbers["value"])).sum()), len(units.seed)
    n = {"n_latents": n_scored, "n_undefined": n_units - n_scored, "n_seeds": len(np.unique(units.seed))}
    return {**found, "floor": mean(_seeds(units, "floor")), **n}


def _seeds(units: _Units, name: str, counts: str | None = None) -> list[Seed]:
    """The units that have a value, by seed and stratum.

    Args:
        units: the units of one scorer and metric.
        name: column of the values.
        counts: column of per-unit multiplicities, applied on top of the weight; 1 for all if None.
    """
    values, weights = units.numbers[name], units.numbers["weight"]
    multiplicities = np.ones(len(values)) if counts is None else units.numbers[counts]
    columns, is_counted = np.stack([weights, multiplicities, values]), ~np.isnan(values) & (multiplicities > 0)
    found: list[Seed] = []
    for seed in np.unique(units.seed[is_counted]):
        own = is_counted & (units.seed == seed)
        strata = [own & (units.stratum == stratum) for stratum in np.unique(units.stratum[own])]
        if min(stratum.sum() for stratum in strata) < MIN_IN_STRATUM:
            strata = [own]
        found.append([columns[:, chosen] for chosen in strata])
    return found


def mean(seeds: Sequence[Seed]) -> float | None:
    """The mean over seeds of the weighted mean over units; None without a unit."""
    return float(np.mean([_weighted_mean(seed) for seed in seeds])) if seeds else None


def _weighted_mean(seed: Seed) -> float:
    weights, counts, values = np.hstack(seed)
    return float(np.average(values, weights=weights * counts))


def replicates(seeds: Sequence[Seed], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Replicates | None:
    """The mean with its errors by unit; None where a seed has fewer than `MIN_LATENTS` units, or there is no seed."""
    n = len(seeds)
    if min((sum(stratum.shape[1] for stratum in seed) for seed in seeds), default=0) < MIN_LATENTS:
        return None
    parts = [part / n for seed in seeds for part in unit_parts(seed)]
    totals = [_total(seed) for seed in seeds]
    of_seeds = zip(seeds, totals, strict=True)
    shares = np.concatenate([np.prod(own[:2], axis=0) / total / n for seed, total in of_seeds for own in seed])
    strata = [stratum for seed in seeds for stratum in seed]
    residuals = np.concatenate([values - values.mean() for _, _, values in strata])
    counts = np.concatenate([counts / np.exp(np.log(counts).mean()) for _, counts, _ in strata])
    rests_on_few = depends_on(residuals, counts)
    means = [_weighted_mean(seed) for seed in seeds]
    return Replicates(
        value=float(np.mean(means)),
        parts=np.concatenate(parts),
        n_units=kish(shares),
        freedom=degrees_of_freedom(strata, parts, rests_on_few),
        skewness=skewness_of(np.concatenate(parts)) if rests_on_few else skewness_of(residuals, shares),
        n_seeds=n,
        seed_variance=float(np.var(means, ddof=1) / n) if n > 1 else 0.0,
        residual_variance=float(sum((part**2).sum() for part in parts)),
        bounds=bounds,
    )


def _total(seed: Seed) -> float:
    return float(sum(np.prod(stratum[:2], axis=0).sum() for stratum in seed))


def unit_parts(seed: Seed) -> list[Float[np.ndarray, " units"]]:
    """The parts of a seed's units in the error of its mean, an array for each stratum; Σ parts² is the variance."""
    mean_of_all, total, found = _weighted_mean(seed), _total(seed), []
    for weights, counts, values in seed:
        own = weights * counts * (values - mean_of_all) / total
        found.append((own - own.mean()) * np.sqrt(len(own) / (len(own) - 1)))
    return found


def degrees_of_freedom(
    strata: Sequence[Float[np.ndarray, "3 units"]],
    parts: Sequence[Float[np.ndarray, " units"]],
    rests_on_few: bool = False,
) -> float:
    """The number (Σ v_h)² / Σ (v_h² / f_h), with v_h the part of stratum h in the variance, and f_h its own number."""
    power = 2 if rests_on_few else 1
    own = np.array([max(1.0, kish((weights * counts) ** power) - 1) for weights, counts, _ in strata])
    variances = np.array([(part**2).sum() for part in parts])
    if not variances.any():  # all values are equal
        return float(own.sum())
    return float(variances.sum() ** 2 / (variances**2 / own).sum())
