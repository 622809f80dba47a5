"""Scores of latents taken together: weights, pairs, and intervals that cover what they say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as t_distribution

import harness
from harness.contracts.scorer import range_of
from harness.tables.interpretability import (
    MIN_LATENTS,
    interpretability,
    judge_too_weak,
    mean,
    replicates,
)
from harness.tables.intervals import interval
from harness.tables.tidy import COLUMNS, INTERP_COLUMNS

METHOD = {"family": "f", "model": "m", "site": "resid_post.1", "fit_tokens": 1000, "method": "x", "method_config": "{}"}


def _row(metric: str, value: float | None, **columns: Any) -> dict[str, Any]:
    return {**METHOD, "seed": 0, "metric": metric, "value": value, **columns}


UNIT = {"stratum": "density_1", "weight": 1.0, "density": 0.01}


def _unit(scorer: str, latent: int, value: float | None, control: float | None = None, **columns: Any) -> list[Any]:
    """A scored unit: its main metric, one that is not, and the control."""
    judge = None if scorer == "floor" else "encoder"
    own = {"scorer": scorer, "scorer_config": "{}", "judge": judge, "latent": latent, "sign": 1}
    own |= {**UNIT, **columns}
    main: dict[str, Any] = {"metric": "auroc", "chance": 0.5, "lowest": 0.0, "highest": 1.0}
    main |= {key: own.pop(key) for key in main if key in own}
    control_name = f"{main['metric']}_random_explanation"
    return [
        _row(value=value, **{**main, **own}),
        _row("balanced_accuracy", None if value is None else value / 2, **own),
        _row(control_name, control, **own),
    ]


def _table(*rows: Any) -> pd.DataFrame:
    flat = [row for item in rows for row in (item if isinstance(item, list) else [item])]
    frame = pd.DataFrame(flat, columns=[*COLUMNS, *INTERP_COLUMNS])
    numbers = dict.fromkeys(("value", "weight", "density", "active_share", "chance", "lowest", "highest"), "float64")
    whole = dict.fromkeys(("fit_tokens", "seed", "latent", "sign"), "Int64")
    return frame.astype(dict.fromkeys(set(frame) - set(numbers) - set(whole), "string") | numbers | whole)


def test_the_value_is_weighted_by_stratum_and_undefined_units_are_only_counted() -> None:
    table = _table(
        _unit("judge", 1, 0.9, 0.5, stratum="density_1", weight=30.0),
        _unit("judge", 2, 0.6, 0.4, stratum="density_4", weight=10.0),
        _unit("judge", 3, None, None, stratum="density_4", weight=10.0),
        _row("dead_share_of_poles", 0.25),
        _row("rare_share_of_latents", 0.5),
        _row("units", 100.0),
    )
    (line,) = interpretability(table, ["floor"]).to_dict("records")
    assert line["value"] == pytest.approx((30 * 0.9 + 10 * 0.6) / 40)  # unweighted: .75; a null as 0: .66
    assert line["random_explanation"] == pytest.approx((30 * 0.5 + 10 * 0.4) / 40)
    assert (line["n_latents"], line["n_undefined"], line["n_seeds"], line["chance"]) == (2, 1, 1, 0.5)
    assert (line["dead_share_of_poles"], line["rare_share_of_latents"]) == (0.25, 0.5)
    assert (line["method"], line["scorer"], line["judge"], line["metric"]) == ("x", "judge", "encoder", "auroc")
    nothing = ("low", "high", "interval_over", "floor", "lift", "lift_low", "random_explanation_low")
    assert all(pd.isna(line[name]) for name in nothing)


def test_strata_are_told_apart_and_seeds_too() -> None:
    generator = np.random.default_rng(1)
    strata = {"density_1": (10.0, 0.2), "density_2": (20.0, 0.5), "density_3": (5.0, 0.8)}
    units, seeds = [], []
    for seed in (3, 4):
        own = [(w, m + 0.05 * generator.standard_normal(6)) for w, m in strata.values()]
        seeds.append([np.stack([np.full(6, w), np.ones(6), values]) for w, values in own])
        for name, (w, values) in zip(strata, own, strict=True):
            units += [
                {**row, "seed": seed}
                for i, value in enumerate(values)
                for row in _unit("judge", i + 10 * len(name), value, stratum=name, weight=w)
            ]
    generator.shuffle(units)
    (line,) = interpretability(_table(*units), []).to_dict("records")
    known = replicates(seeds, (0.0, 1.0))
    assert known is not None and line["n_seeds"] == 2 and line["n_latents"] == 36
    assert line["value"] == pytest.approx(known.value)
    assert (line["low"], line["high"]) == pytest.approx(interval(known))


def test_a_metric_with_an_end_but_no_chance_has_a_line_of_its_own() -> None:
    """With an interval that ends there, and next to it the main metric's line as it was."""
    generator = np.random.default_rng(0)
    senses = 1 + 0.2 * generator.random(20) ** 8
    own: dict[str, Any] = {"scorer": "judge", "scorer_config": "{}", "judge": "encoder", "sign": 1, **UNIT}
    also = [_row("senses", float(n), lowest=1.0, latent=i, **own) for i, n in enumerate(senses)]
    mains = [_unit("judge", i, 0.5 + i / 100) for i in range(20)]
    (alone,) = interpretability(_table(*mains), []).to_dict("records")
    both = interpretability(_table(*mains, *also), []).set_index("metric")
    assert len(both) == 2 and both.loc["auroc"].dropna().to_dict().items() <= alone.items()
    line = both.loc["senses"]
    assert line["value"] == pytest.approx(senses.mean()) and line["n_latents"] == 20
    assert 1 <= line["low"] < line["value"] < line["high"]
    nothing = ("chance", "floor", "lift", "random_explanation", "difference_to_random")
    assert line[list(nothing)].isna().all() and judge_too_weak(line) is None


def test_the_lift_is_paired_by_unit_and_metric() -> None:
    """Latents differ by far more than the scorers do, yet the lift is known well."""
    generator = np.random.default_rng(0)
    easy = generator.uniform(0.1, 0.8, 20)
    lift = 0.05 + 0.001 * generator.standard_normal(20)
    units = [
        unit
        for i in range(20)
        for unit in (
            _unit("floor", i, easy[i]),
            _unit("judge", i, easy[i] + lift[i]),
            _unit("other_metric", i, 0.4, metric="accuracy", chance=0.2),
        )
    ]
    units.append(_unit("judge", 99, 0.0))  # no floor: part of the value, not of the lift
    units.append(_unit("floor", 98, 0.0, sign=-1))
    lines = interpretability(_table(*units), ["floor"]).set_index("scorer")
    judge = lines.loc["judge"]
    assert judge["lift"] == pytest.approx(lift.mean())
    assert 0.04 < judge["lift_low"] < judge["lift"] < judge["lift_high"] < 0.06
    assert judge["floor"] == pytest.approx(easy.mean())
    assert judge["high"] - judge["low"] > 0.1
    assert judge["interval_over"] == "latents"
    assert pd.isna(lines.loc["floor", "lift"]) and pd.isna(lines.loc["floor", "floor"])
    assert pd.isna(lines.loc["other_metric", "lift"])


def test_the_floor_may_give_a_metric_that_is_not_its_main_one() -> None:
    """Here half its AUROC of .6; against other negatives there is none."""
    main = {"metric": "balanced_accuracy", "chance": 0.5, "lowest": 0.0, "highest": 1.0}
    units = [_unit("floor", i, 0.6) for i in range(4)]
    units += [[_row(value=0.5, scorer="judge", scorer_config="{}", latent=i, sign=1, **UNIT, **main)] for i in range(4)]
    hard = {"scorer": "judge", "scorer_config": '{"negatives": "near_text"}'}
    units += [[_row(value=0.5, latent=i, sign=1, **hard, **UNIT, **main)] for i in range(4)]
    lines = interpretability(_table(*units), ["floor"]).set_index(["scorer", "scorer_config"])
    own = lines.loc[("judge", "{}")]
    assert own["floor"] == pytest.approx(0.3) and own["lift"] == pytest.approx(0.2)
    assert pd.isna(lines.loc[("judge", hard["scorer_config"]), "lift"])


def test_seeds_are_averaged_and_units_of_two_seeds_never_paired() -> None:
    table = _table(
        *[_unit("judge", i, 0.8, seed=0, weight=1.0) for i in range(15)],
        *[_unit("judge", i, 0.6, seed=1, weight=9.0) for i in range(15)],
        *[_unit("floor", i, 0.5, seed=0) for i in range(15)],
    )
    line = interpretability(table, ["floor"]).set_index("scorer").loc["judge"]
    assert line["value"] == pytest.approx(0.7)  # over units: .62
    assert line["lift"] == pytest.approx(0.3)
    assert (line["n_seeds"], line["interval_over"]) == (2, "latents and seeds")


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (-0.1, 0.95), (1.0, None), (None, None)])
def test_intervals_of_two_seeds_end_where_the_metric_does(lowest: float | None, highest: float | None) -> None:
    pairs = [("judge", 0, 0.1), ("judge", 1, 0.9), ("floor", 0, 0.05), ("floor", 1, 0.01)]
    ends = {"lowest": lowest, "highest": highest, "metric": "parse_rate"}
    units = [_unit(name, i, value, seed=seed, **ends) for name, seed, value in pairs for i in range(15)]
    line = interpretability(_table(*units), ["floor"]).set_index("scorer").loc["judge"]
    assert line["low"] < -0.5 if lowest is None else line["low"] == lowest
    assert line["high"] > 2 if highest is None else line["high"] == highest
    assert (line["balanced_accuracy_low"], line["balanced_accuracy_high"]) == (0.0, 1.0)  # a share in any case
    if lowest is None or highest is None:
        assert line["lift_low"] < -1.5 and line["lift_high"] > 2
    else:  # a difference may be negative
        assert (line["lift_low"], line["lift_high"]) == pytest.approx((lowest - highest, highest - lowest))


@pytest.mark.parametrize("scorer", harness.catalog("scorer"), ids=lambda spec: spec.name)
def test_every_built_in_scorer_has_a_known_range(scorer: harness.PluginSpec) -> None:
    made = harness.create("scorer", scorer.name)
    low, high = range_of(made)
    assert low <= made.chance <= high


def test_the_density_weighted_mean_is_over_activations() -> None:
    generator = np.random.default_rng(4)
    values, weights, densities = generator.uniform(0.4, 1, 30), np.repeat([2.0, 7.0], 15), generator.gamma(0.5, size=30)
    columns = [
        {"weight": w, "density": d, "stratum": f"density_{1 + (w > 2)}"}
        for w, d in zip(weights, densities, strict=True)
    ]
    units = [_unit("judge", i, value, **columns[i]) for i, value in enumerate(values)]
    units.append(_unit("judge", 30, 0.0, weight=2.0, density=None))  # not known: left out here alone
    (line,) = interpretability(_table(*units), []).to_dict("records")
    weighted = sum(v * w * d for v, w, d in zip(values, weights, densities, strict=True))
    assert line["density_weighted"] == pytest.approx(
        weighted / sum(w * d for w, d in zip(weights, densities, strict=True))
    )
    assert line["value"] == pytest.approx(np.average([*values, 0.0], weights=[*weights, 2.0]))
    assert abs(line["value"] - line["density_weighted"]) > 0.02
    assert line["density_weighted_low"] < line["density_weighted"] < line["density_weighted_high"]
    (line,) = interpretability(_table(*[_unit("judge", i, 0.5, density=0.0) for i in range(12)]), []).to_dict("records")
    assert line["value"] == 0.5 and pd.isna(line["density_weighted"]) and pd.isna(line["density_weighted_low"])


def test_balanced_accuracy_has_an_interval_of_its_own() -> None:
    units = [_unit("judge", i, 0.5 + 0.01 * i, stratum=f"density_{1 + i % 2}") for i in range(20)]
    (line,) = interpretability(_table(*units), []).to_dict("records")
    for name in ("", "_low", "_high"):
        assert line[f"balanced_accuracy{name}"] == pytest.approx(line[name[1:] or "value"] / 2)


def test_a_table_without_scores_gives_no_lines() -> None:
    assert interpretability(_table(_row("dead_share_of_latents", 0.5)), ["floor"]).empty
    lines = interpretability(_table(), ["floor"])
    assert lines.empty and {"value", "low", "lift", "dead_share_of_poles", "judge"} <= set(lines)


def _drawn(generator: np.random.Generator, counts: tuple[int, ...] = (5, 5, 5, 5), shift: float = 0.0) -> Any:
    """A seed's strata: means .5, .6, .7, .8 of very different sizes, a unit's standard deviation .14."""
    means, weights = (0.5, 0.6, 0.7, 0.8), (50.0, 10.0, 20.0, 20.0)
    return [
        np.array([np.full(n, weight / n), np.ones(n), mean + shift + 0.14 * generator.standard_normal(n)])
        for n, mean, weight in zip(counts, means, weights, strict=True)
    ]


TRUTH = (50 * 0.5 + 10 * 0.6 + 20 * 0.7 + 20 * 0.8) / 100


def test_the_variance_is_that_of_a_stratified_mean() -> None:
    """Σ (W_h / W)² s_h² / n_h, as textbooks have it; n_h in place of n_h − 1 would lose a fifth of it."""
    seed = _drawn(np.random.default_rng(5))
    parts = [(weights.sum() / 100) ** 2 * values.var(ddof=1) / len(values) for weights, _, values in seed]
    found = replicates([seed])
    assert found is not None and found.value == pytest.approx(mean([seed]))
    assert (found.parts**2).sum() == pytest.approx(sum(parts))
    assert found.freedom == pytest.approx(sum(parts) ** 2 / sum(part**2 / 4 for part in parts))
    low, high = interval(found)
    half = t_distribution.ppf(0.975, found.freedom) * np.sqrt(sum(parts))
    assert high - low == pytest.approx(2 * half, rel=0.1)  # a little more where values are skewed


def test_scores_that_are_all_perfect_leave_room_for_other_latents() -> None:
    """Else twenty latents, all right, would be said to show that every latent is."""
    (line,) = interpretability(_table(*[_unit("judge", i, 1.0) for i in range(20)]), []).to_dict("records")
    assert (line["low"], line["high"]) == pytest.approx((0.025 ** (1 / 20), 1.0))
    worst = [_unit("judge", i, -1.0, lowest=-1.0, stratum=f"density_{1 + i % 2}") for i in range(20)]
    (line,) = interpretability(_table(*worst), []).to_dict("records")
    assert (line["low"], line["high"]) == pytest.approx((-1.0, -1 + 2 * (1 - 0.025 ** (1 / 20))))


def test_few_latents_give_no_interval_and_single_ones_no_strata() -> None:
    generator = np.random.default_rng(0)
    assert replicates([]) is None
    assert replicates([_drawn(generator, (3, 2, 2, 2))]) is None
    assert replicates([_drawn(generator), _drawn(generator, (3, 2, 2, 2))]) is None
    assert sum((3, 2, 2, 3)) == MIN_LATENTS and replicates([_drawn(generator, (3, 2, 2, 3))]) is not None
    values = [(0, "density_1", 0.1), *((i, "density_2", 0.5 + 0.01 * i) for i in range(1, 12))]
    alone = [_unit("judge", i, value, stratum=stratum) for i, stratum, value in values]
    (line,) = interpretability(_table(*alone), []).to_dict("records")
    assert line["low"] < 0.5 < line["value"]  # the single latent of its stratum is among what is drawn


@pytest.mark.parametrize(("n_seeds", "spread"), [(1, 0.0), (3, 0.0), (3, 0.03), (3, 0.1), (5, 0.05)])
def test_the_interval_covers_the_truth_as_often_as_it_says(n_seeds: int, spread: float) -> None:
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        shifts = spread * generator.standard_normal(n_seeds)
        found = replicates([_drawn(generator, shift=shift) for shift in shifts])
        assert found is not None
        low, high = interval(found)
        covered.append(low <= TRUTH <= high)
    assert 0.91 <= np.mean(covered) <= 0.985  # without the term for seeds: .48 at a spread of .1


def test_density_weighted_means_of_scores_that_fall_with_density_have_honest_intervals() -> None:
    """As if they did not fall, 71 of 100 intervals held the truth: few dense latents decide, and skew the error."""
    generator = np.random.default_rng(1)
    density = np.sort(np.minimum(generator.lognormal(np.log(0.003), 2, 2000), 0.6))
    scores = 0.7 - 0.15 * np.log10(density / 0.003) + 0.02 * generator.standard_normal(2000)
    strata = np.array_split(np.stack([np.full(2000, 500 / 15), density, scores]), 4, axis=1)
    held = []
    for _ in range(300):
        drawn = [stratum[:, generator.choice(500, 15, replace=False)] for stratum in strata]
        found = replicates([drawn])
        assert found is not None
        low, high = interval(found)
        held.append(low <= np.average(scores, weights=density) <= high)
    assert np.mean(held) >= 0.9


def test_the_lift_is_over_the_floor_against_the_same_negatives() -> None:
    configs = {name: json.dumps({"negatives": name}) for name in ("random", "near_text")}
    floors = {"random": 0.7, "near_text": 0.4}
    units = [
        unit
        for i in range(12)
        for name, config in configs.items()
        for unit in (_unit("floor", i, floors[name], scorer_config=config),)
    ]
    units += [_unit("judge", i, 0.8, scorer_config=config) for i in range(12) for config in (*configs.values(), "{}")]
    units += [_unit("judge", i, 0.8, scorer_config='{"negatives": "near_latent"}') for i in range(12)]
    lines = interpretability(_table(*units), ["floor"])
    lines = lines[lines["scorer"] == "judge"].set_index("scorer_config")
    for config, floor in ((configs["random"], 0.7), (configs["near_text"], 0.4), ("{}", 0.7)):
        assert lines.loc[config, "floor"] == pytest.approx(floor)
        assert lines.loc[config, "lift"] == pytest.approx(0.8 - floor)
    assert pd.isna(lines.loc['{"negatives": "near_latent"}', "lift"])  # no floor was taken on these


@pytest.mark.parametrize(
    ("value", "control", "why"),
    [(0.5, 0.4, "chance 0.5 lies in"), (0.7, 0.5, None), (0.7, 0.7, "another latent's explanation does as well")],
)
def test_a_judge_is_too_weak_where_it_guesses_or_any_explanation_will_do(
    value: float, control: float, why: str | None
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 40))
    units = [_unit("judge", i, value + a, control + b) for i, (a, b) in enumerate(noise.T)]
    (line,) = interpretability(_table(*units), []).to_dict("records")
    assert line["difference_to_random"] == pytest.approx(line["value"] - line["random_explanation"])
    found = judge_too_weak(line)
    assert (found is None) == (why is None) and (why or "") in (found or "")
    (few,) = interpretability(_table(*units[: MIN_LATENTS - 1]), []).to_dict("records")
    assert judge_too_weak(few) is None  # no interval says so
