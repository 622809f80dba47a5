"""Estimates of a plan: before any run, after runs, and on a machine that is not here."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.asking.judge_costs import JudgeCosts
from harness.cli.display import against_plan
from harness.cli.display import costs as told
from harness.planning.config import compose
from harness.planning.plan import Plan, build_plan
from harness.running.estimate import check_budget, estimate, remember_timings, seconds_per_cell, stored_bytes
from harness.running.machine import Machine
from harness.storage.records import Record, row
from harness.storage.states import states
from harness.storage.store import ARTEFACT_KINDS, Store
from tests.support.toy_suites import plan_of, raw_suite

A_CORE = {"flops": 9.8e10, "memory_bytes_per_second": 2.5e10, "steps": 3.5e7, "disk_bytes_per_second": 5e8}
"""Rates of one core of the machine that the shipped numbers are from."""
NOBODY = JudgeCosts(0, 0, 0, 0.0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose rates are known."""
    here = Machine(**A_CORE, name="here", origin="calibrated")
    monkeypatch.setattr("harness.running.estimate.this_machine", lambda _: here)


def _on_disk(n_rows: int, width: int) -> int:
    return n_rows * (4 * width + 30)  # numbers, and who a row is


def test_tokens_and_disk_are_counted_once_for_each_pass(tmp_path: Path, store: Store) -> None:
    plan = plan_of(raw_suite(tmp_path))  # 2 models, 2 sites, 1,000 and 200 tokens, width 32
    costs = estimate(plan, states(plan, store), store)
    assert costs.n_tokens == 2 * (1000 + 200)
    assert costs.activation_bytes == 2 * 2 * _on_disk(1000 + 200, 32)
    assert costs.disk_bytes > costs.activation_bytes and costs.n_unknown_seconds == 0
    check_budget(costs, plan.suite.config)
    small = plan_of(raw_suite(tmp_path, max_disk_gb=0.0001)).suite.config
    with pytest.raises(harness.ConfigError, match=r"need 0\.000758 GB, max_disk_gb is 0\.0001"):
        check_budget(costs, small)
    _do(plan, store, 1.0)
    costs = estimate(plan, states(plan, store), store)
    assert (costs.n_tokens, costs.disk_bytes, costs.seconds, costs.memory_bytes) == (0, 0, 0, 0)
    assert stored_bytes(plan.cells.values(), store) == 0  # they hold nothing but a manifest


def _do(plan: Plan, store: Store, times: float) -> None:
    """Record every cell as done in that many times the seconds that were expected."""
    expected = seconds_per_cell(plan, store)
    fits = {method: _own_seconds(plan, store, method) for method in ("atomic", "dense")}
    for key, cell in plan.cells.items():
        seconds = times * (fits[cell.columns["method"]] if cell.kind == "fit" else expected(cell))
        own = [row("cost", "fit_seconds", seconds, 1, False)] if cell.kind == "fit" else []
        store.write_record(key, Record("done", rows=own, seconds=0.0 if own else seconds, provenance={"device": "cpu"}))
        if cell.kind in ARTEFACT_KINDS:
            store.work_folder(cell.kind, key).mkdir(parents=True)
            store.commit(cell.kind, key, {})


def _own_seconds(plan: Plan, store: Store, method: str) -> float:
    """Seconds of a fit without those of its stream, which count as the first one's."""
    return min(seconds_per_cell(plan, store)(cell) for cell in plan.of_kind("fit") if cell.columns["method"] == method)


def test_what_was_measured_here_wins(tmp_path: Path, store: Store) -> None:
    tokens = {"fit": 10_000_000, "evaluation": 5_000_000}  # hours, beside which a second of prior counts for nothing
    plan = plan_of(raw_suite(tmp_path, tokens=tokens))
    store.cache.mkdir()
    (store.cache / "timings.json").write_text('{"fit/atomic": 0.5}')  # as earlier versions wrote it
    before = estimate(plan, states(plan, store), store)
    assert set(before.seconds_by_origin) == {"calibrated"}
    seconds = _own_seconds(plan, store, "atomic")
    _do(plan, store, 3.0)
    remember_timings([cell for cell in plan.cells.values() if cell.kind == "fit"], plan, store)
    fresh = Store(tmp_path / "fresh", tmp_path / "fresh cache")
    fresh.cache.mkdir()
    (fresh.cache / "timings.json").write_bytes((store.cache / "timings.json").read_bytes())
    after = estimate(plan, states(plan, fresh), fresh)
    assert set(after.seconds_by_origin) == {"calibrated", "measured"}
    assert _own_seconds(plan, fresh, "atomic") == pytest.approx(3 * seconds, rel=0.01)
    assert after.seconds_by_origin["calibrated"] < before.seconds < after.seconds
    assert "measured in earlier runs here" in " ".join(told(after, NOBODY))


def test_timings_with_any_content_stop_no_plan(tmp_path: Path, store: Store) -> None:
    plan = plan_of(raw_suite(tmp_path, similarities=[]))
    without = [*map(seconds_per_cell(plan, store), plan.cells.values())]
    factors = [
        f'{{"factors": {{"cpu/fit/atomic": {factor}}}}}' for factor in ("null", '"x"', "[2]", "-1", "NaN", "1e999")
    ]
    store.cache.mkdir(exist_ok=True)
    for content in ("", "null", "[1]", '{"factors": null}', "[" * 100_000, *factors):
        (store.cache / "timings.json").write_text(content)
        assert [*map(seconds_per_cell(plan, store), plan.cells.values())] == without
    _do(plan, store, 3.0)
    remember_timings(plan.cells.values(), plan, store)
    assert [*map(seconds_per_cell(plan, store), plan.cells.values())] != without


def test_cells_of_milliseconds_say_little(tmp_path: Path, store: Store) -> None:
    plan = plan_of(raw_suite(tmp_path, tokens={"fit": 10, "evaluation": 10}, evaluations=[], similarities=[]))
    seconds = _own_seconds(plan, store, "atomic")
    _do(plan, store, 50.0)
    remember_timings(plan.cells.values(), plan, store)
    assert _own_seconds(plan, store, "atomic") < 2 * seconds  # and not 50 times as long


def test_a_machine_that_is_not_here(tmp_path: Path, store: Store) -> None:
    here = plan_of(raw_suite(tmp_path, tokens={"fit": 10_000_000, "evaluation": 5_000_000}))
    _do(here, store, 3.0)
    remember_timings(here.cells.values(), here, store)
    fresh = Store(tmp_path / "fresh", store.cache / "elsewhere")
    there = plan_of(raw_suite(tmp_path, tokens={"fit": 10_000_000, "evaluation": 5_000_000}, device="h200"))
    costs = estimate(there, states(there, fresh), fresh)
    assert costs.machine == "h200" and set(costs.seconds_by_origin) == {"shipped"}
    assert costs.seconds < estimate(here, states(here, fresh), fresh).seconds
    assert costs.card_bytes is not None and costs.card_has_bytes is not None
    lines = " ".join(told(costs, NOBODY))
    assert "the rate card h200; nothing was run there" in lines and "on the card: about" in lines and "149 GB" in lines


def test_quickstart_is_estimated_within_a_factor_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took eight minutes on two quiet cores of that kind, and stored captures of 380 MB."""
    monkeypatch.chdir(tmp_path)
    two_cores = Machine(**A_CORE | {"flops": 2 * A_CORE["flops"]}, name="two cores", origin="calibrated")
    monkeypatch.setattr("harness.running.estimate.this_machine", lambda _: two_cores)
    plan, store = build_plan(compose(["suite=quickstart"])[0]), Store(tmp_path / "results", tmp_path / "cache")
    costs = estimate(plan, states(plan, store), store)
    assert 240 < costs.seconds < 960
    assert 0.9 * _captured() < costs.activation_bytes < 1.1 * _captured() < costs.disk_bytes < 2 * _captured()
    assert 0.5e9 < costs.memory_bytes < 5e9 and costs.card_bytes is None
    line = against_plan(costs, 480.0, 500_000_000)
    assert line.startswith("took 8 min and 500 MB of disk; planned were about ") and " min and " in line


def _captured() -> float:
    return 2 * _on_disk(49_000, 576) + 2 * _on_disk(49_000, 384)
