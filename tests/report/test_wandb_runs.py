"""Runs of W&B that belong to no plan any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.planning.plan import Plan
from harness.report.wandb_runs import earlier_runs, run_id, runs_lock
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(raw_suite(tmp_path))


def test_an_id_follows_from_the_cells(plan: Plan, tmp_path: Path) -> None:
    assert run_id(plan) == run_id(plan_of(raw_suite(tmp_path)))
    assert run_id(plan) != run_id(replace(plan, cells=dict(list(plan.cells.items())[1:])))


def test_runs_of_other_plans_and_what_a_crash_left(plan: Plan, tmp_path: Path) -> None:
    assert list(earlier_runs(plan, tmp_path)) == []
    earlier, own = "0123456789abcdef", run_id(plan)
    left = (f"offline-run-20260101_000000-{earlier}", f"run-20260101_000000-{earlier}", f"files-{earlier}")
    kept = (f"offline-run-20260101_000000-{own}", f"files-{own}", "mine", f"notes-{earlier}", "run-of-mine")
    crashed = f".files-{own}.discarded-abcd1234"
    for name in (*left, *kept, crashed):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    (tmp_path / "wandb" / "latest-run").symlink_to(left[0])
    (tmp_path / "wandb" / f"run-1-{earlier}").write_text("a file")
    found = list(earlier_runs(plan, tmp_path))
    assert {one.path.name: one.kind for one in found} == dict.fromkeys(left, "wandb") | {crashed: "discarded"}
    assert {one.lock for one in found} == {runs_lock(tmp_path)}
