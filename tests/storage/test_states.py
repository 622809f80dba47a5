"""Where cells stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.planning.plan import Plan
from harness.storage.records import Record
from harness.storage.states import State, outcome, states
from harness.storage.store import ARTEFACT_KINDS, Store
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    raw = raw_suite(tmp_path, sites=["resid_post.1"], methods=["atomic"], seeds=[0], similarities=["angle"])
    return plan_of(raw | {"models": raw["models"][:1]})


def _do(plan: Plan, store: Store) -> None:
    for key, cell in plan.cells.items():
        store.write_record(key, Record("done"))
        if cell.kind in ARTEFACT_KINDS:
            store.work_folder(cell.kind, key).mkdir(parents=True)
            store.commit(cell.kind, key, {})


def _named(plan: Plan, store: Store) -> dict[str, str]:
    names = {}
    for key, state in states(plan, store).items():
        cell = plan.cells[key]
        names[f"{cell.kind} {cell.work['split']}" if cell.kind == "capture" else cell.kind] = state.name
    return names


def test_states_in_plan_order(plan: Plan, store: Store) -> None:
    assert list(states(plan, store)) == list(plan.cells)
    assert set(_named(plan, store).values()) == {"to do"}
    _do(plan, store)
    assert _named(plan, store) == dict.fromkeys(("capture fit", "capture evaluation", "fit", "evaluation"), "done")


def test_cells_that_leave_only_numbers_stay_done_where_others_need_them(plan: Plan, store: Store) -> None:
    """As tasks need similarities."""
    (evaluation,) = plan.of_kind("evaluation")
    later = replace(evaluation, key="later", upstream=(evaluation.key,))
    longer = replace(plan, cells={**plan.cells, "later": later})
    _do(plan, store)
    found = states(longer, store)
    assert found.pop("later").name == "to do"
    assert {state.name for state in found.values()} == {"done"}


def test_an_artefact_that_is_gone_is_made_again_only_if_needed(plan: Plan, store: Store) -> None:
    _do(plan, store)
    for kind in ARTEFACT_KINDS:
        for cell in plan.of_kind(kind):
            store.discard(kind, cell.key)
    assert set(_named(plan, store).values()) == {"done"}  # the numbers are there
    store.record_path(plan.of_kind("evaluation")[0].key).unlink()
    assert set(_named(plan, store).values()) == {"to do"}


def test_what_another_suite_has_made_is_done_here(plan: Plan, store: Store) -> None:
    _do(plan, store)
    elsewhere = Store(store.results.with_name("other"), store.cache)
    wanted = {"capture fit": "done", "capture evaluation": "done", "fit": "done", "evaluation": "to do"}
    assert _named(plan, elsewhere) == wanted


def test_what_lacks_something_that_may_yet_be_had_is_to_do(plan: Plan, store: Store) -> None:
    _do(plan, store)
    fit, evaluation = plan.of_kind("fit")[0].key, plan.of_kind("evaluation")[0].key
    store.write_record(evaluation, Record("done", incomplete="an answer"))
    found = states(plan, store)
    assert (found[evaluation].name, found[evaluation].reason, found[fit].name) == ("to do", "an answer", "done")
    store.write_record(evaluation, Record("failed", error="", log="logs/second.txt"))
    assert states(plan, store)[evaluation] == found[evaluation]  # a worse attempt takes nothing away
    record = store.record(evaluation)
    assert record is not None and (record.status, record.log) == ("done", "logs/second.txt")
    store.write_record(fit, Record("done", incomplete="an answer"))
    assert states(plan, store)[fit].name == "to do"  # its rows are old, though another suite has mended the artefact
    store.record_path(fit).unlink()
    assert states(plan, store)[fit].name == "done"
    store.discard("fit", fit)
    store.work_folder("fit", fit).mkdir(parents=True)
    store.commit("fit", fit, {"incomplete": "an answer"})
    assert states(plan, store)[fit].name == "to do" and store.manifest("fit", fit) is not None


def test_a_cell_skipped_for_a_failure_upstream_is_tried_again_even_if_its_artefact_is_there(
    plan: Plan, store: Store
) -> None:
    """The artefact may be another suite's; only a run turns it into rows of this one."""
    _do(plan, store)
    fit = plan.of_kind("fit")[0].key
    store.write_record(fit, Record("skipped", "UpstreamFailed", "the capture failed"))
    assert states(plan, store)[fit] == State("to do", upstream_failed="the capture failed")
    assert states(plan, store)[fit].is_todo
    ended = outcome(plan, store)
    assert ended.counts == {"done": 3, "skipped": 1}
    assert ended.skipped == {"the capture failed": [plan.cells[fit]]}


def test_a_run_takes_up_what_is_to_do_or_failed() -> None:
    assert [State(name).is_todo for name in ("done", "to do", "failed", "skipped")] == [False, True, True, False]


def test_the_outcome_of_a_run_rereads_only_what_it_had_to_do(plan: Plan, store: Store) -> None:
    _do(plan, store)
    fit, evaluation = plan.of_kind("fit")[0].key, plan.of_kind("evaluation")[0].key
    store.record_path(evaluation).unlink()
    store.write_record(fit, Record("failed", "ValueError", "bad"))
    before = states(plan, store)
    store.write_record(fit, Record("done"))
    store.write_record(evaluation, Record("failed", "ValueError", "worse"))
    ended = outcome(plan, store, before)
    assert ended == outcome(plan, store)
    assert ended.counts == {"done": 3, "failed": 1}
    assert ended.failed == [(plan.cells[evaluation], State("failed", "worse"))]
    for capture in plan.of_kind("capture"):
        store.record_path(capture.key).write_text("never read")
    assert outcome(plan, store, before) == ended
    store.discard("fit", fit)  # the evaluation that failed needs it when it is tried again
    assert outcome(plan, store, before).counts == {"done": 2, "to do": 1, "failed": 1}


def test_failed_is_not_done_and_a_broken_record_is_none(plan: Plan, store: Store) -> None:
    _do(plan, store)
    fit, evaluation = plan.of_kind("fit")[0].key, plan.of_kind("evaluation")[0].key
    store.write_record(fit, Record("failed", "ValueError", "bad"))
    store.write_record(evaluation, Record("skipped", "UpstreamFailed", "the fit failed"))
    found = states(plan, store)
    assert (found[fit].name, found[fit].reason, found[evaluation].name) == ("failed", "bad", "to do")
    store.write_record(fit, Record("done"))
    store.record_path(evaluation).write_text('{"status": "do')
    found = states(plan, store)
    assert (found[fit].name, found[evaluation].name) == ("done", "to do")
