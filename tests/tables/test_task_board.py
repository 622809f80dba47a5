"""Boards condensed from records of tasks, counted by hand on a suite without models behind it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.planning.plan import Plan, build_plan
from harness.planning.resolver import resolve
from harness.registry.plugin_manager import Registered
from harness.registry.specs import Spec
from harness.storage.records import Record
from harness.storage.store import Store
from harness.tables.task_board import ranks, task_scores
from harness.tables.tidy import read_tables
from tests.support.toy_suites import catalog, model_folder, no_preset, raw_suite

FAMILIES = {"trained": [0, 1, 2], "raw": [3, 4, 5]}


def planned(folder: Path, **changes: Any) -> Plan:
    """Three models of one family, three of its untrained control; two similarities, two tasks."""
    found = catalog()
    for name in ("matching", "order"):
        spec = Spec("task", name, 1, "of one family", "x:Y", pairs=lambda _, a, b: a.family == b.family)
        spec = dataclasses.replace(spec, needs=("values",))
        found.entries["task", name] = Registered(spec, sys.modules[__name__], "here", "1")
    found.entries["similarity", "other"] = dataclasses.replace(
        found.entries["similarity", "angle"],
        spec=dataclasses.replace(found.entries["similarity", "angle"].spec, name="other"),
    )
    models = [
        {"model": "toy", "path": model_folder(folder / f"m{i}", str(i)), "label": f"m{i}", "family": family}
        | ({"control_of": "trained"} if family == "raw" else {})
        for family, numbers in FAMILIES.items()
        for i in numbers
    ]
    raw = raw_suite(folder, models=models, tasks=["matching", "order"], evaluations=[], seeds=[0])
    return build_plan(resolve(raw | {"similarities": ["angle", "other"]} | changes, found, no_preset))


def recorded(plan: Plan, folder: Path, values: dict[tuple[str, str, str], list[float]]) -> Store:
    """By task, similarity and family what each of the three models scores, on the diagonal."""
    store = Store(folder / "results", folder / "cache")
    for cell in plan.of_kind("task"):
        rows = []
        for family, numbers in FAMILIES.items():
            own = values[cell.columns["task"], cell.columns["similarity"], family]
            sums = {"names": [f"m{i}" for i in numbers], "numerator": np.diag(own).tolist()}
            rows.append(
                {
                    **{"table": "tasks", "metric": "error" if cell.columns["task"] == "order" else "accuracy"},
                    **{"value": float(np.mean(own)), "n": 3, "reason": None, "family": family, "is_main": True},
                    **{"higher_is_better": cell.columns["task"] != "order", "bounds": [0.0, 1.0]},
                    "models": sums | {"denominator": np.eye(3).tolist()},
                }
            )
        store.write_record(cell.key, Record("done", rows=rows))
    return store


VALUES = {
    ("matching", "angle", "trained"): [0.9, 0.91, 0.89],
    ("matching", "other", "trained"): [0.5, 0.51, 0.49],
    ("matching", "angle", "raw"): [0.3, 0.31, 0.29],
    ("matching", "other", "raw"): [0.5, 0.51, 0.49],
    ("order", "angle", "trained"): [0.2, 0.2, 0.2],
    ("order", "other", "trained"): [0.2, 0.2, 0.2],
    ("order", "angle", "raw"): [0.2, 0.2, 0.2],
    ("order", "other", "raw"): [0.2, 0.2, 0.2],
}


def test_scores_tiers_and_differences(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    store = recorded(plan, tmp_path, VALUES)
    scores = task_scores(plan, read_tables(plan, store)[1]).set_index(["task", "family", "similarity"])
    best, worse = scores.loc[("matching", "trained", "angle")], scores.loc[("matching", "trained", "other")]
    assert best["value"] == pytest.approx(0.9) and worse["value"] == pytest.approx(0.5)
    assert (best["tier"], worse["tier"]) == (1, 2)
    assert best["low"] < 0.9 < best["high"] <= 1  # an interval ends where the score's range does
    # On the untrained control the order is the other way round: so is the difference.
    assert scores.loc[("matching", "raw", "other"), "tier"] == 1
    assert best["difference_to_control"] == pytest.approx(0.6)
    assert worse["difference_to_control"] == pytest.approx(0)
    assert 0.3 < best["difference_to_control_low"] < 0.6 and best["n_models"] == 3
    assert scores.loc[("matching", "raw", "angle"), "difference_to_control"] is None or np.isnan(
        scores.loc[("matching", "raw", "angle"), "difference_to_control"]
    )
    assert scores.loc["order"]["tier"].tolist() == [1, 1, 1, 1]
    ends = ["", "_low", "_high"]
    assert [best[f"difference_to_best{end}"] for end in ends] == [0, 0, 0]
    # All models differ by the same: paired, that is certain, however unsure either value is.
    assert [worse[f"difference_to_best{end}"] for end in ends] == pytest.approx([-0.4] * 3)


def test_best_is_the_least_where_less_is_better(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    values = VALUES | {("order", "angle", "trained"): [0.1, 0.15, 0.11]}
    scores = task_scores(plan, read_tables(plan, recorded(plan, tmp_path, values))[1]).set_index(
        ["task", "family", "similarity"]
    )
    found = [scores.loc[("order", "trained", name), "difference_to_best"] for name in ("angle", "other")]
    assert found == pytest.approx([0, 0.08])


def test_ranks_leave_out_controls_and_share_ties(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    store = recorded(plan, tmp_path, VALUES)
    found = ranks(task_scores(plan, read_tables(plan, store)[1]), plan, read_tables(plan, store)[0]).set_index(
        "similarity"
    )
    assert found["mean_rank"].to_dict() == {"angle": (1 + 1.5) / 2, "other": (2 + 1.5) / 2}
    # One that a task has not judged has no mean rank: it would be a mean over easier questions.
    next_to_last = next(
        c for c in plan.of_kind("task") if (c.columns["task"], c.columns["similarity"]) == ("order", "other")
    )
    store.write_record(next_to_last.key, Record("skipped", error="for a reason"))
    found = ranks(task_scores(plan, read_tables(plan, store)[1]), plan, read_tables(plan, store)[0]).set_index(
        "similarity"
    )
    assert np.isnan(found.loc["other", "mean_rank"]) and found.loc["angle", "n_tasks"] == 2


def test_seeds_that_judged_other_models_are_taken_together(tmp_path: Path) -> None:
    """A second seed that left a model out: sums are added by model, not by place."""
    plan = planned(tmp_path, similarities=["overlap"], methods=["atomic"], seeds=[0, 1])
    store = Store(tmp_path / "results", tmp_path / "cache")
    for cell in plan.of_kind("task"):
        names, own = (["m0", "m1", "m2"], [1.0, 0.0, 1.0]) if cell.columns["seed"] == 0 else (["m0", "m2"], [1.0, 0.0])
        row = {"table": "tasks", "metric": "accuracy", "value": float(np.mean(own)), "n": len(own), "reason": None}
        row |= {"higher_is_better": True, "family": "trained", "is_main": True, "bounds": [0.0, 1.0]}
        row |= {
            "models": {"names": names, "numerator": np.diag(own).tolist(), "denominator": np.eye(len(own)).tolist()}
        }
        store.write_record(cell.key, Record("done", rows=[row]))
    scores = task_scores(plan, read_tables(plan, store)[1])
    assert scores["value"].tolist() == [pytest.approx(3 / 5)] * 2  # one line for each task
