"""An agent does a job as a whole, unless another is gone with it: then perhaps for one of its cells."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.files import sealed
from harness.planning.cells import Cell
from harness.running.agent import Agent
from harness.running.board import Board
from harness.running.jobs import jobs_of
from harness.storage.processes import Process
from harness.storage.store import Store
from tests.support.toy_suites import plan_of, raw_suite

GONE = replace(Process.current(), pid=2**22 + 1)
"""A process that does not run: its number is above all that Linux gives."""


@pytest.mark.parametrize(("last", "sizes"), [("given back", [2]), ("beat", [1, 1])])
def test_cells_are_done_one_by_one_only_after_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, sizes: list[int]
) -> None:
    plan, store = plan_of(raw_suite(tmp_path)), Store(tmp_path / "results", tmp_path / "cache")
    job = next(job for job in jobs_of([*plan.cells.values()], 1, lambda cell: 1.0) if len(job.cells) == 2)
    board = Board.make(tmp_path / "board", [replace(job, needs=())], {"id": "x"})
    _say(board, event="agent", process=asdict(GONE))
    assert list(board.refresh())
    claim = board.claim("worker")
    assert claim is not None
    _say(board, event="job", job=job.id)
    _say(board, event=last, claim=claim.name)
    agent = Agent(board, plan, store, lambda event: None)
    done: list[list[Cell]] = []
    monkeypatch.setattr(agent.supervisor, "run", done.append)
    agent.work()
    assert [len(cells) for cells in done] == sizes and board.is_complete


def _say(board: Board, **event: object) -> None:
    with (board.folder / "agents" / "worker.jsonl").open("ab") as file:
        file.write(sealed(event, "worker.jsonl") + b"\n")
