"""Metrics as evaluations declare them: what is refused, and which names a family holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness import EvaluationSpec, Metric, PluginError
from harness.registry.metric import metric_named
from harness.registry.spec_checks import check_spec

SPEC = EvaluationSpec("e", 1, "a toy evaluation", "x:Y")


def test_the_first_that_fits_a_name_counts() -> None:
    declared = (
        Metric("auc", "AUC", "of all", True, ".2f"),
        Metric("*_low", "* low", "end of an interval"),
        Metric("auc_*", "AUC of *", "of a probe", True, ".3f"),
    )
    exact, family, end = (metric_named(name, declared) for name in ("auc", "auc_latents_16", "auc_latents_16_low"))
    assert exact == declared[0]
    assert family == Metric("auc_latents_16", "AUC of latents 16", "of a probe", True, ".3f")
    assert end is not None and (end.heading, end.higher_is_better) == ("auc latents 16 low", None)
    assert metric_named("auc_", declared) is None and metric_named("f1", declared) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "qualty"}, "unknown role 'qualty'. Did you mean 'quality'"),
        ({"name": "explained variance"}, "only letters, digits and '_'"),
        ({"name": "a_*_b_*"}, "one '*' at most"),
        ({"name": "auc_*", "role": "quality"}, "a family can only be 'detail'; declare what is quality by name"),
        ({"format": ".3q"}, "format '.3q' writes no number"),
        ({"format": None}, "format is None; give a text"),
        ({"name": 5}, "Metric 5: name is 5; give a text"),
        ({"heading": None}, "heading is None; give a text"),
        ({"meaning": 3}, "meaning is 3; give a text"),
        ({"higher_is_better": "yes"}, "higher_is_better is 'yes'; say True, False or None"),
        ({"higher_is_better": 1}, "higher_is_better is 1; say True, False or None"),
        ({"role": ["quality"]}, "unknown role ['quality']"),
        ({"highest": "1"}, "highest is '1'; give a number, or None"),
        ({"lowest": 1, "highest": 0}, "lowest is 1, which is not below highest, 0"),
        ({"lowest": float("nan")}, "lowest is nan, which is not below highest, None"),
        ({"name": "method"}, "tables have a column of that name themselves"),
        ({"name": "seeds"}, "tables have a column of that name themselves"),
        ({"name": "tier", "role": "quality"}, "tables have a column of that name themselves"),
        ({"name": "fit_seconds", "role": "cost"}, "tables have a column of that name themselves"),
    ],
)
def test_what_can_not_be_is_refused(changes: dict[str, Any], message: str) -> None:
    """Where it is registered, so that the spec is named."""
    metric = Metric(**{"name": "m", "heading": "m", "meaning": "a number", **changes})
    with pytest.raises(PluginError) as refused:
        check_spec(dataclasses.replace(SPEC, metrics=(metric,)))
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"Spec evaluation/e: Metric {metric.name!r}: ")


def test_a_metric_is_not_called_as_an_end_of_an_interval_beside_it() -> None:
    quiet = Metric("quiet", "quiet", "a number", role="compared")
    for end in ("quiet_low", "quiet_high"):
        shown, aside = (Metric(end, end, "another", role=role) for role in ("listed", "detail"))
        with pytest.raises(PluginError, match=f"Spec evaluation/e: Metric '{end}' .* interval .* of 'quiet'"):
            check_spec(dataclasses.replace(SPEC, metrics=(shown, quiet)))
        check_spec(dataclasses.replace(SPEC, metrics=(aside, quiet)))  # in the evaluation's own table alone
        check_spec(dataclasses.replace(SPEC, metrics=(shown, dataclasses.replace(quiet, role="listed"))))


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [(0.12345, ".3f", "0.123"), (12.34, "seconds", "12.3"), (1.234, "seconds", "1.23"), (3.2e6, "bytes", "3.2 MB")],
)
def test_numbers_are_written_as_declared(value: float, how: str, text: str) -> None:
    assert Metric("m", "m", "a number", format=how).write(value) == text


@pytest.mark.parametrize(("value", "text"), [(12_345.6, "12,346"), (0.123456, "0.1235"), (16_384.0, "16,384")])
def test_where_no_format_is_declared_numbers_are_short(value: float, text: str) -> None:
    assert Metric("m", "m", "a number").write(value) == text


def test_a_spec_with_other_things_than_metrics_is_refused() -> None:
    metric = Metric("m", "m", "a number")
    check_spec(dataclasses.replace(SPEC, metrics=(metric, Metric("n", "n", "another"))))
    for metrics, message in (([metric], "give a tuple of harness.Metric"), ((metric, metric), "declares m twice")):
        with pytest.raises(PluginError, match=message):
            check_spec(dataclasses.replace(SPEC, metrics=metrics))
