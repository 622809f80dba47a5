"""Costs of cells by the formulas that ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.planning.plan import Plan
from harness.running.costs import Costs, _formulas, name, value_of
from tests.support.toy_suites import plan_of, raw_suite

KNOWN = (
    "tokens",
    "width",
    "layers",
    "stream",
    "depth",
    "rest",
    "value_bytes",
    "replays",
    "latents",
    "k",
    "passes",
    "encode",
    "sampled",
    "permutations",
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(raw_suite(tmp_path, tokens={"fit": [1000, 2000], "evaluation": 200, "interp": 300}))


def test_a_formula_is_a_sum_of_products() -> None:
    known = {"a": 2.0, "b": 3.0}
    assert value_of("2*a*b + b + 1.0e+2", known) == 12 + 3 + 100
    assert value_of(7, known) == value_of("7", known) == 7
    with pytest.raises(ValueError, match="nonsense"):
        value_of("2*nonsense", known)


def test_the_formulas_that_ship_speak_of_what_is_known_and_of_plugins_that_exist() -> None:
    known = dict.fromkeys((*KNOWN, "first"), 2.0)
    formulas = _formulas()
    for where, own in formulas["cells"].items():
        assert all(value_of(formula, known) > 0 for formula in own.values()), where
    assert all(value_of(formula, known) > 0 for formula in formulas["models"].values())
    plugins = {kind: {spec.name for spec in harness.catalog(kind)} | {"*"} for kind in ("method", "model")}
    assert {*formulas["methods"]} <= plugins["method"] and {*formulas["models"]} <= plugins["model"]
    of_kind = {"capture": "model", "fit": "method", "latents": "method", "explanation": "explainer"}
    of_kind["scoring"] = "scorer"
    for where in formulas["cells"]:
        kind, _, plugin = where.partition("/")
        names = {spec.name for spec in harness.catalog(of_kind.get(kind, kind))}
        assert plugin in names | {"*"}, where


def test_every_kind_of_cell_costs_something(plan: Plan) -> None:
    costs = Costs(plan)
    for cell in plan.cells.values():
        cost = costs.of(cell, is_first=True)
        assert cost is not None and cost.flops + cost.steps > 0, cell.label
    assert {name(cell) for cell in plan.of_kind("capture")} == {"capture/toy"}
    assert {name(cell) for cell in plan.of_kind("fit")} == {"fit/atomic", "fit/dense"}


def test_what_a_group_shares_is_counted_once_and_a_pass_goes_to_its_deepest_site(plan: Plan, tmp_path: Path) -> None:
    first, second = [cell for cell in plan.of_kind("capture") if cell.group == plan.of_kind("capture")[0].group]
    of_first, of_second = Costs(plan).of(first, is_first=True), Costs(plan).of(second, is_first=False)
    assert of_first is not None and of_second is not None
    assert of_first.flops > 0 == of_second.flops and of_first.disk_bytes == of_second.disk_bytes
    deep = plan_of(raw_suite(tmp_path, sites=["resid_post.1", "resid_post.5"], tokens=_tokens(1000)))
    of_deep = Costs(deep).of(deep.of_kind("capture")[0], is_first=True)
    assert of_deep is not None and of_deep.flops == 2 * of_first.flops  # 6 blocks instead of 3


def _tokens(fit: int) -> dict[str, Any]:
    return {"fit": fit, "evaluation": 200, "interp": 300}


def test_fits_grow_with_tokens(plan: Plan) -> None:
    fits = {cell.columns["fit_tokens"]: cell for cell in plan.of_kind("fit")}
    small, large = (Costs(plan).of(fits[n], is_first=False) for n in (1000, 2000))
    assert small is not None and large is not None and large.flops == 2 * small.flops


def test_sizes_are_parameters_numbers_or_the_width() -> None:
    from harness.running.costs import _of_method

    assert _of_method("topk_sae", '{"n_latents": 512, "k": 8, "passes": 3}') == {"latents": 512, "k": 8, "passes": 3}
    assert _of_method("topk_sae", '{"n_latents": 512, "k": 8, "passes": null}')["passes"] == "replays"
    assert _of_method("pca", '{"n_components": 32, "k": null}') == {"latents": 32, "k": 40, "passes": 1}
    assert _of_method("identity", "{}") == {"latents": "width", "k": "width", "passes": 1}
    assert _of_method("of_somebody", '{"k": 3, "size": "small"}') == {"latents": 4096, "k": 3, "passes": 1}


def test_the_width_is_that_of_the_site(tmp_path: Path) -> None:
    """Rows of neurons are wider on disk, and running the model costs what it did."""
    plan = plan_of(raw_suite(tmp_path, sites=["mlp_out.1", "mlp_act.1"]))
    wide = {**dict(plan.suite.models[0].shape or {}), "mlp_act": 128}
    models = tuple(replace(model, shape=wide) for model in plan.suite.models)
    known = replace(plan, suite=replace(plan.suite, models=models))
    ratio = 128 / wide["width"]
    out, act = (
        next(c for c in plan.of_kind("capture") if c.columns["site"] == site) for site in plan.suite.models[0].sites
    )
    of_out, of_act = (Costs(known).of(cell, is_first=True) for cell in (out, act))
    assert of_out is not None and of_act is not None and of_act.flops == of_out.flops
    n = 30 * int(out.work["tokens"])
    assert of_act.disk_bytes - n == ratio * (of_out.disk_bytes - n)
    assert Costs(plan).of(act, is_first=True) is None  # not stated


def test_a_model_of_unknown_width_is_not_guessed_at(plan: Plan) -> None:
    models = tuple(replace(model, shape=None) for model in plan.suite.models)
    unknown = replace(plan, suite=replace(plan.suite, models=models))
    assert Costs(unknown).of(plan.of_kind("capture")[0], is_first=True) is None
    assert Costs(unknown).of_model(models[0]) == 0
