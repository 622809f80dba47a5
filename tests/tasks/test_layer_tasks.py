"""Tasks that read values: tables whose scores are counted by hand, and metrics that must not come off well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import harness
from harness.plugins.tasks.answers import rank, rank_correlation
from tests.support.toy_comparisons import comparisons, scores_of, sites_of

Site = harness.ComparedSite
TWO = {"a": "small", "b": "small"}


def near(a: Site, b: Site) -> float:
    """Perfect: the nearer the layers, the more alike."""
    return 1 - abs(a.layer - b.layer) / 10


def test_a_perfect_similarity_answers_all_rightly() -> None:
    models = {"a": "small", "b": "small", "c": "large", "d": "large"}

    def value(a: Site, b: Site) -> float:
        return near(a, b) - 0.3 * (a.family != b.family)

    compared = comparisons(sites_of(models), value)
    matching = scores_of("layer_matching", compared)
    assert matching["accuracy", "small"] == matching["accuracy_all_pairs", "large"] == 1
    assert matching["reciprocal_rank", "small"] == matching["rank_correlation", "small"] == 1
    assert matching["layer_error", "small"] == 0
    assert scores_of("depth_matching", compared) == {
        ("depth_error", "small × large"): 0,
        ("accuracy", "small × large"): 1,
        ("rank_correlation", "small × large"): pytest.approx(1),
    }
    monotonicity = scores_of("layer_monotonicity", compared)
    assert monotonicity["violation_rate", "small"] == 0
    assert monotonicity["rank_correlation", "large"] == pytest.approx(1)
    assert scores_of("group_separation", compared) == {("separation", "small | large"): 1}
    assert scores_of("null_calibration", compared)["separation", "small"] == 1


@pytest.mark.parametrize("value", [0.7, float("nan")])
def test_a_similarity_that_says_nothing_is_wrong(value: float) -> None:
    """A constant, and one that is always undefined: neither may pass for perfect, as in published code."""
    models = {"a": "small", "b": "small", "c": "large"}
    compared = comparisons(sites_of(models), lambda a, b: value)
    matching = scores_of("layer_matching", compared)
    assert matching["accuracy", "small"] == matching["accuracy_all_pairs", "small"] == 0
    # The furthest of the tied layers: 2 of 2 from either end, 1 of 2 from the middle.
    assert matching["layer_error", "small"] == pytest.approx((1 + 0.5 + 1) / 3)
    is_undefined = np.isnan(value)
    assert matching["reciprocal_rank", "small"] == pytest.approx(0 if is_undefined else 1 / 3)
    assert matching["rank_correlation", "small"] == (-1 if is_undefined else 0)
    assert scores_of("layer_monotonicity", compared)["violation_rate", "small"] == 1
    assert scores_of("group_separation", compared) == {("separation", "small | large"): 0}
    depth = scores_of("depth_matching", compared)
    assert depth["accuracy", "small × large"] == 0
    assert depth["depth_error", "small × large"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_layer_matching_counted_by_hand() -> None:
    """From a, layers 0 and 2 are matched and layer 1 is taken for 2; from b, all."""
    table = {("a", "b"): [[0.9, 0.5, 0.1], [0.2, 0.6, 0.7], [0.1, 0.2, 0.3]], ("b", "a"): np.eye(3).tolist()}

    def value(a: Site, b: Site) -> float:
        return float(a.layer == b.layer) if a.model == b.model else table[a.model, b.model][a.layer][b.layer]

    found = scores_of("layer_matching", comparisons(sites_of(TWO), value))
    assert found["accuracy", "small"] == pytest.approx(5 / 6)
    assert found["accuracy_all_pairs", "small"] == pytest.approx(11 / 12)
    assert found["reciprocal_rank", "small"] == pytest.approx((5 + 1 / 2) / 6)
    assert found["layer_error", "small"] == pytest.approx((1 / 2) / 6)


def test_self_pairs_alone_give_the_published_accuracy_a_fifth() -> None:
    """Five models, all wrong but with themselves: 20 % of all ordered pairs, 0 of those that tell something."""
    models = dict.fromkeys("abcde", "small")
    compared = comparisons(
        sites_of(models), lambda a, b: near(a, b) if a.model == b.model else -float(a.layer == b.layer)
    )
    found = scores_of("layer_matching", compared)
    assert found["accuracy", "small"] == 0
    assert found["accuracy_all_pairs", "small"] == pytest.approx(1 / 5)


def test_depth_matching_counted_by_hand() -> None:
    """Three layers against five: relative depths 0, 1/2, 1 and 0, 1/4, 1/2, 3/4, 1; all are taken for the last."""
    sites = sites_of({"a": "short"}, 3) + sites_of({"b": "long"}, 5)
    compared = comparisons(sites, lambda a, b: float(a.layer + b.layer))
    found = scores_of("depth_matching", compared)
    errors = [1, 1 / 2, 0, 1, 3 / 4, 1 / 2, 1 / 4, 0]
    assert found["depth_error", "short × long"] == pytest.approx(np.mean(errors))
    # Of the five layers, 3/4 is as near to 1 as to 1/2.
    assert found["accuracy", "short × long"] == pytest.approx(3 / 8)


def test_monotonicity_counts_violations_from_both_sides() -> None:
    """Layers 0, 1, 2 with S(0,1) = .9, S(0,2) = .5, S(1,2) = .4: of two comparisons, S(1,2) > S(0,2) fails."""
    table = np.array([[1, 0.9, 0.5], [0.9, 1, 0.4], [0.5, 0.4, 1]])
    found = scores_of("layer_monotonicity", comparisons(sites_of({"a": "x"}), lambda a, b: table[a.layer, b.layer]))
    assert found["violation_rate", "x"] == 1 / 2
    # ρ is 1 from layer 0 and −1 from layer 2; from layer 1 the others are equally far.
    assert found["rank_correlation", "x"] == pytest.approx(0)


def test_training_convergence_counted_by_hand() -> None:
    sites = sites_of({"start": "run", "middle": "run", "late": "run", "end": "run"}, 2)
    order = {("start", 0): 0.1, ("middle", 0): 0.2, ("late", 0): 0.3, ("start", 1): 0.3, ("middle", 1): 0.1}
    compared = comparisons(sites, lambda a, b: order.get((a.model, a.layer), 0.2) if b.model == "end" else 0.0)
    found = scores_of("training_convergence", compared, families=["run"])
    # Layer 0 rises; layer 1 is .3, .1, .2: two of three comparisons are violated.
    assert found["violation_rate", "run"] == pytest.approx(2 / 6)
    assert found["rank_correlation", "run"] == pytest.approx((1 - 0.5) / 2)


def test_a_training_may_end_at_a_model_of_another_family() -> None:
    sites = sites_of({"done": "trained", "start": "run", "late": "run"}, 2)
    compared = comparisons(
        sites, lambda a, b: {"start": 0.1, "late": 0.2}.get(a.model, 0) if b.model == "done" else 0.9
    )
    found = scores_of("training_convergence", compared, families=["run"], ends=["done"])
    assert found["violation_rate", "run"] == 0


def test_untrained_controls_are_matched_but_stand_for_no_architecture() -> None:
    sites = sites_of({"a": "s", "b": "s", "u": "raw", "v": "raw", "c": "t"}, control_of={"raw": "s"})
    compared = comparisons(sites, near)
    assert {family for _, family in scores_of("layer_matching", compared)} == {"s", "raw"}
    assert {family for _, family in scores_of("depth_matching", compared)} == {"s × t"}
    assert {family for _, family in scores_of("group_separation", compared)} == {"s | t"}


def test_null_calibration_is_the_size_of_what_is_said_of_unrelated_rows() -> None:
    found = scores_of("null_calibration", comparisons(sites_of(TWO), near, unrelated=-0.25))
    assert found["bias", "small"] == 0.25
    found = scores_of("null_calibration", comparisons(sites_of(TWO), near, unrelated=1.0))
    assert found["separation", "small"] == 0


def test_families_that_do_not_fit_are_refused() -> None:
    compared = comparisons([*sites_of({"a": "x"}, 3), *sites_of({"b": "x"}, 4)], near)
    with pytest.raises(harness.ConfigError, match="a and b are read at different sites"):
        scores_of("layer_matching", compared)
    with pytest.raises(harness.ConfigError, match=r"no model is of family 'y'; there are x"):
        scores_of("layer_matching", compared, families=["y"])
    with pytest.raises(harness.Undefined, match="no family has two models"):
        scores_of("layer_matching", comparisons(sites_of({"a": "x", "b": "y"}), near))
    with pytest.raises(harness.ConfigError, match="two checkpoints and an end"):
        scores_of("training_convergence", comparisons(sites_of(TWO), near), families=["small"])


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_ranks_and_correlations(values: list[int], data: st.DataObject) -> None:
    array = np.array(values, dtype=float)
    right = data.draw(st.integers(0, len(values) - 1))
    assert rank(array, right) == stats.rankdata(-array, method="max")[right]
    truth = np.array(data.draw(st.permutations(range(len(values)))), dtype=float)
    expected = 0.0 if len(set(values)) == 1 else stats.spearmanr(array, truth).statistic
    assert rank_correlation(array, truth) == pytest.approx(expected)
