"""How well the latents of each method can be understood: the scores of sampled latents, taken together.

Of all latents only some are scored, drawn evenly from strata of density, so their mean is weighted: Σ w v / Σ w, with v
the score of a unit and w the number of units that it stands for. A line's value is the mean of this over seeds. Units
whose score is undefined are counted and left out.

Intervals are a bootstrap over latents, stratum by stratum: of n_h units n_h − 1 are drawn, which gives a small stratum
its right variance (Rao & Wu 1988). Where a stratum has a single scored unit, strata are not told apart. Seeds are too
few to be drawn anew: to each replicate is added what the mean of s seeds may be off by, τ/√s times a number of
Student's t with s−1 degrees of freedom, where τ² is by how much the means of the seeds vary beyond what drawing latents
explains. With one seed the interval is about latents alone; `interval_over` says so. With two, t has one degree of
freedom and long tails; an interval ends where the metric's range does.

The lift is the score less the floor's on the same unit and against the same negatives, which the parameter `negatives`
of a scorer names; its interval is that of the paired differences.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.stats import N_REPLICATES, Replicates, interval

MIN_LATENTS = 10
"""Scored in every seed; fewer get no interval."""
MIN_IN_STRATUM = 2
_SHARE_METRICS = ("auroc", "balanced_accuracy", "accuracy")
"""Between 0 and 1. Of two seeds, Student's t may say more than there can be: intervals end where the range does."""
_SEED = 0
_CONTROL = "_random_explanation"
FIT = ["family", "model", "site", "fit_tokens", "method", "method_config"]
SCORER = ["scorer", "scorer_config", "judge"]
_LINE = [*FIT, *SCORER, "metric"]
_UNIT = ["seed", "latent", "sign"]
_SHARES = ["dead_share", "rare_share"]
_COLUMNS = (
    *("value", "low", "high", "interval_over", "chance"),
    *("random_explanation", "random_explanation_low", "random_explanation_high"),
    *("floor", "lift", "lift_low", "lift_high", "n_latents", "n_undefined", "n_seeds"),
)

Seed: TypeAlias = Sequence[Float[np.ndarray, "2 units"]]
"""The weights and the values of the units that were drawn from each stratum of one decomposition."""


def interpretability(table: pd.DataFrame, floors: Collection[str]) -> pd.DataFrame:
    """One line per fit (seeds together) and scorer.

    Args:
        table: `interp`.
        floors: the scorers that the lift of the others is taken over, on the same metric.
    """
    lines = [
        {**dict(zip(_LINE, key, strict=True)), **_line(units)}
        for key, units in _units(table, floors).groupby(_LINE, sort=False, dropna=False)
    ]
    return pd.DataFrame(lines, columns=[*_LINE, *_COLUMNS]).merge(shares(table), on=FIT, how="left")


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """One line per fit whose latents were read, whether or not they were scored: how many are dead, or rare."""
    counted = table[table["scorer"].isna() & table["metric"].isin(_SHARES)]
    means = counted.groupby([*FIT, "metric"], dropna=False, sort=False)["value"].mean()
    return means.unstack("metric", sort=False).reindex(columns=_SHARES).reset_index()


def _units(table: pd.DataFrame, floors: Collection[str]) -> pd.DataFrame:
    """Every unit's main metric with each scorer, and beside it the control, the floor and the lift."""
    scored = table[table["chance"].notna()]  # only main metrics have one
    scored = scored.assign(negatives=scored["scorer_config"].map(_negatives))
    controls = table[table["metric"].fillna("").str.endswith(_CONTROL)]
    controls = controls.assign(metric=controls["metric"].str.removesuffix(_CONTROL))
    is_floor = scored["scorer"].isin(floors)
    units = _beside(scored, controls, "random_explanation", _LINE)
    units = _beside(units, scored[is_floor], "floor", [*FIT, "metric", "negatives"])
    units["floor"] = units["floor"].mask(units["scorer"].isin(floors))  # nothing to be told of a floor's own lift
    return units.assign(lift=units["value"] - units["floor"])


def _negatives(scorer_config: str) -> str:
    """The silent windows that a scorer saw; those that know of no others see random ones."""
    return str(json.loads(scorer_config).get("negatives", "random"))


def _beside(units: pd.DataFrame, others: pd.DataFrame, name: str, keys: list[str]) -> pd.DataFrame:
    """The units with the values that other rows have of them."""
    keys = [*keys, *_UNIT]
    values = others[[*keys, "value"]].rename(columns={"value": name}).drop_duplicates(keys)
    return units.merge(values, on=keys, how="left")


def _line(units: pd.DataFrame) -> dict[str, Any]:
    """The numbers of one line."""
    found: dict[str, Any] = {"chance": units["chance"].iloc[0]}
    for name, prefix in (("value", ""), ("random_explanation", "random_explanation_"), ("lift", "lift_")):
        seeds = _seeds(units, name)
        drawn = replicates(seeds)
        low, high = (None, None) if drawn is None else _within(*interval(drawn), units["metric"].iloc[0], name)
        found |= {name: mean(seeds), f"{prefix}low": low, f"{prefix}high": high}
        if name == "value" and drawn is not None:
            found["interval_over"] = "latents" if len(seeds) == 1 else "latents and seeds"
    n_scored = int(units["value"].notna().sum())
    n = {"n_latents": n_scored, "n_undefined": len(units) - n_scored, "n_seeds": int(units["seed"].nunique())}
    return {**found, "floor": mean(_seeds(units, "floor")), **n}


def _within(low: float, high: float, metric: str, name: str) -> tuple[float, float]:
    """The part of an interval that lies where the mean may lie; a difference of shares may be negative."""
    if metric not in _SHARE_METRICS:
        return low, high
    return max(low, -1.0 if name == "lift" else 0.0), min(high, 1.0)


def _seeds(units: pd.DataFrame, name: str) -> list[Seed]:
    """The weights and values of what is defined, by seed and stratum."""
    found: list[Seed] = []
    for _, of_seed in units.dropna(subset=[name]).groupby("seed"):
        strata = [of_stratum for _, of_stratum in of_seed.groupby("stratum")]
        if min(map(len, strata)) < MIN_IN_STRATUM:
            strata = [of_seed]
        found.append([of_stratum[["weight", name]].to_numpy(dtype=float).T for of_stratum in strata])
    return found


def mean(seeds: Sequence[Seed]) -> float | None:
    """The mean over seeds of the weighted mean over units; None without a unit."""
    return float(np.mean([_weighted_mean(seed) for seed in seeds])) if seeds else None


def _weighted_mean(seed: Seed) -> float:
    weights, values = np.hstack(seed)
    return float(np.average(values, weights=weights))


def replicates(seeds: Sequence[Seed]) -> Replicates | None:
    """The bootstrap's values of the mean; None where a seed has fewer than `MIN_LATENTS` units, or there is no seed."""
    if min((sum(stratum.shape[1] for stratum in seed) for seed in seeds), default=0) < MIN_LATENTS:
        return None
    generator = np.random.default_rng(_SEED)
    drawn = np.array([_drawn_means(seed, generator) for seed in seeds])
    n = len(seeds)
    if n == 1:
        return np.asarray(drawn[0])
    spread = np.var([_weighted_mean(seed) for seed in seeds], ddof=1) - drawn.var(axis=1).mean()
    error = np.sqrt(max(0.0, spread) / n) * generator.standard_t(n - 1, size=N_REPLICATES)
    return np.asarray(drawn.mean(axis=0) + error)


def _drawn_means(seed: Seed, generator: np.random.Generator) -> Replicates:
    """Weighted means over units that are drawn anew within strata, whose weights stay as they are."""
    total = np.zeros(N_REPLICATES)
    for weights, values in seed:
        n = len(values)
        places = generator.integers(n, size=(N_REPLICATES, n - 1))
        of_stratum = (weights[places] * values[places]).sum(axis=1) / weights[places].sum(axis=1)
        total += weights.sum() * of_stratum
    return np.asarray(total / sum(stratum[0].sum() for stratum in seed))
