"""A plugin that deletes the folders of a run fails, and nothing of others is lost for good."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.planning.plan import Plan
from harness.running.board import FOLDER, Board
from harness.running.checkout import made_with, put_probe
from harness.running.jobs import jobs_of
from harness.running.vanished import Vanished
from harness.storage.store import Store
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    plan = plan_of(raw_suite(tmp_path))
    cells = {
        key: replace(cell, plugin_files=("own.py",) if cell.columns.get("method") == "dense" else ())
        for key, cell in plan.cells.items()
    }
    return replace(plan, cells=cells)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.fixture
def board(plan: Plan, store: Store) -> Board:
    made = made_with(plan, store)
    put_probe(made, store)
    return Board.make(store.results / FOLDER, jobs_of([*plan.cells.values()], 1, lambda cell: 1.0), made)


def _take(vanished: Vanished, board: Board, *plugin_files: str) -> tuple[str, ...]:
    """Tell of the first job with these files; its cells."""
    job = next(job for job in board.jobs.values() if job.plugin_files == plugin_files)
    vanished.note({"event": "job", "job": job.id, "agent": "a"})
    return job.cells


@pytest.mark.parametrize("folder", ["results", "cache"])
def test_the_cells_at_hand_fail_and_are_not_done_again(folder: str, plan: Plan, store: Store, board: Board) -> None:
    vanished = Vanished(plan, store)
    vanished.check(board)
    _take(vanished, board)
    blamed = _take(vanished, board, "own.py")
    assert vanished.blame(board) is None  # nothing has vanished
    shutil.rmtree(getattr(store, folder))
    with pytest.raises(StoreError, match="was deleted while the run was at work"):
        vanished.check(board)
    said = vanished.blame(board)
    assert said is not None and f"{getattr(store, folder)} was deleted while code of own.py ran" in said
    assert set(vanished.cells) == set(blamed)
    vanished.record()
    record = store.record(blamed[0])
    assert record is not None and record.status == "failed" and str(record.error) in said
    assert vanished.blame(board) is None  # nobody is left to blame: the run ends


def test_built_ins_are_not_blamed(plan: Plan, store: Store, board: Board) -> None:
    vanished = Vanished(plan, store)
    _take(vanished, board)
    shutil.rmtree(store.results)
    assert vanished.blame(board) is None
