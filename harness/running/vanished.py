"""Folders of a run that vanish while it is at work, as where a plugin deletes them: the jobs at hand are to blame.

What is lost is done again. One worker does jobs with plugin files last, so that it loses what is done already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.planning.plan import Plan
from harness.running.board import Board
from harness.running.checkout import can_not_be_written, probe_of
from harness.storage.records import Record
from harness.storage.store import Store


@dataclass
class Vanished:
    """The cells that may not be done in this run, as the run's folders vanished with them."""

    plan: Plan
    store: Store
    job_of: dict[str, str] = field(default_factory=dict)
    """The job that each agent took last."""
    cells: dict[str, str] = field(default_factory=dict)
    """Keys, and what is said of each."""

    def note(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "job":
            self.job_of[event["agent"]] = event["job"]

    def check(self, board: Board) -> None:
        """Raise a StoreError if a folder has vanished."""
        if folder := self._folder(board):
            raise StoreError(f"{folder} was deleted while the run was at work. Run the suite again.")

    def blame(self, board: Board) -> str | None:
        """Give up the cells of the plugin files at hand, and say so; None if nothing vanished, or nobody is known."""
        jobs = [board.jobs[job] for job in self.job_of.values() if job in board.jobs]
        blamed = [key for job in jobs if job.plugin_files for key in job.cells if key not in self.cells]
        if not blamed or not (folder := self._folder(board)):
            return None
        files = ", ".join(sorted({file for key in blamed for file in self.plan.cells[key].plugin_files}))
        error = f"{folder} was deleted while code of {files} ran. Nothing there is the plugin's to delete."
        self.cells |= dict.fromkeys(blamed, error)
        self.job_of.clear()
        return f"{error} Its cells fail; the rest is done again"

    def record(self) -> None:
        """Write the failures."""
        for key, error in self.cells.items():
            self.store.write_record(key, Record("failed", "Vanished", error))

    def _folder(self, board: Board) -> str:
        if _is_gone(board.folder):
            return str(self.store.results)
        is_gone = _is_gone(probe_of(board.made_with, self.store)) and not can_not_be_written(self.store.cache)
        return str(self.store.cache) if is_gone else ""


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:  # a disk that does not answer has lost nothing yet
        return False
    return False
