"""The script of scaling.csv reads off a board what a run took."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from harness.files import sealed
from harness.running.board import Board
from harness.running.jobs import Job
from harness.storage.processes import Process
from tests.suites.test_claims import _script


def test_seconds_are_those_of_jobs_on_their_workers(tmp_path: Path) -> None:
    """One worker does a, then c, which needs it; the other b. d waits for both."""
    jobs = [Job("a", "fit", ("1", "2")), Job("b", "fit", ("3",)), Job("c", "fit", ("4",), ("a",))]
    board = Board.make(tmp_path / "board", [*jobs, Job("d", "fit", ("5",), ("b", "c"))], {"id": "x"})
    done = {"one": [("a", 0, 4), ("c", 5, 8), ("d", 9, 10)], "two": [("b", 1, 7)]}
    for name, own in done.items():
        events = [{"event": "agent", "process": asdict(Process.current())}]
        for job, begin, end in own:
            events += [{"event": "job", "job": job, "at": begin}, {"event": "job done", "job": job, "at": end}]
        lines = [sealed(event, f"{name}.jsonl") + b"\n" for event in events]
        (board.folder / "agents" / f"{name}.jsonl").write_bytes(b"".join(lines))
    found = _script("scaling").of_board(board.folder)
    assert found == {
        "cells": 5,
        "jobs": 4,
        "wall_seconds": 10.0,
        "busy_seconds": 14.0,
        "critical_path_seconds": 8.0,  # a, c and d; b and d are 7
        "idle_share": pytest.approx(0.3),
        "between_jobs_seconds": 1.0,
    }
