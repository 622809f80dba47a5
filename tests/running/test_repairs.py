"""Damage that a worker finds is repaired by the same run, which does not go on for ever."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.registry.plugin_manager import load_catalog
from harness.running.repairs import Repairs
from harness.running.session import Session
from harness.storage.records import Record
from harness.storage.states import Outcome, State
from harness.storage.store import Store, require
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(raw_suite(tmp_path, sites=["resid_post.1"], methods=["atomic"], seeds=[0], similarities=[]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.fixture
def evaluation(plan: Plan) -> Cell:
    return plan.of_kind("evaluation")[0]


@pytest.fixture
def fit(evaluation: Cell, store: Store) -> str:
    """The key of the fit that an evaluation rests on, which is done and has rotted."""
    key = str(evaluation.work["fit"])
    store.work_folder("fit", key).mkdir(parents=True)
    (store.work_folder("fit", key) / "a").write_text("weights")
    store.commit("fit", key, {})
    store.write_record(key, Record("done"))
    (store.artefact("fit", key) / "a").write_text("weighty")
    return key


def _use(evaluation: Cell, store: Store) -> list[dict[str, Any]]:
    """Have the evaluation read the fit; what the worker tells of."""
    events: list[dict[str, Any]] = []
    session = Session(store, load_catalog(), torch.device("cpu"), "logs/x.txt", events.append)
    with session.alone(evaluation):
        require(store, "fit", evaluation.work["fit"])
    return events


def test_a_worker_discards_what_is_damaged_and_puts_off_what_rests_on_it(
    evaluation: Cell, store: Store, fit: str
) -> None:
    damaged, put_off = _use(evaluation, store)
    assert damaged["event"] == "damaged" and damaged["key"] == fit and "a is corrupt" in damaged["text"]
    assert put_off["status"] == "to do" and store.record(evaluation.key) is None
    assert not store.artefact("fit", fit).exists()
    damaged, _ = _use(evaluation, store)  # another worker, which finds it gone
    assert damaged["key"] == fit and "is missing" in damaged["text"]


def test_what_was_never_made_is_not_waited_for(evaluation: Cell, store: Store, fit: str) -> None:
    store.record_path(fit).unlink()
    (event,) = _use(evaluation, store)
    assert event["status"] == "failed" and "is corrupt" in event["error"]


def test_damage_that_can_not_be_discarded_fails_the_cell(
    evaluation: Cell, store: Store, fit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Store, "discard", deny)
    (event,) = _use(evaluation, store)
    assert event["status"] == "failed" and store.artefact("fit", fit).exists()


def _ended(*failed: Cell) -> Outcome:
    return Outcome(Counter(), [(cell, State("failed")) for cell in failed], {}, has_answers=True)


def test_a_run_takes_another_turn_but_not_for_ever(plan: Plan, evaluation: Cell, store: Store, fit: str) -> None:
    repairs, event = Repairs(plan, store), {"event": "damaged", "key": fit, "text": "a is corrupt"}
    assert repairs.note({"event": "cell"}) is None and not repairs.take_turn(_ended())
    for _ in range(2):
        assert repairs.note(event) == f"a is corrupt: {plan.cells[fit].label} is made again"
        assert repairs.note(event) is None  # another cell of the same turn has found it, too
        assert repairs.take_turn(_ended()) and not repairs.failed and not repairs.gave_up
    repairs.note(event)
    assert not repairs.take_turn(_ended())
    record = store.record(evaluation.key)
    assert record is not None and record.status == "failed" and "as it was 2 times before" in str(record.error)
    assert evaluation.key in repairs.failed and repairs.gave_up


def test_what_failed_is_not_tried_in_every_turn(plan: Plan, evaluation: Cell, store: Store) -> None:
    repairs = Repairs(plan, store)
    repairs.take_turn(_ended(evaluation))
    assert repairs.failed == {evaluation.key}
