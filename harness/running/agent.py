"""An agent: takes jobs from the board, one after another, and has them done in a worker process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from harness.errors import StoreError
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.running.board import Board, Claim
from harness.running.speaker import Speaker
from harness.running.supervisor import Cancelled, Supervisor
from harness.storage.records import UPSTREAM_FAILED, Record
from harness.storage.store import Store

_MAX_DEATHS = 2
"""Agents that may go with a cell that they do alone, or a range of cells, before it counts as what they died of."""
_PAUSES = (0.02, 1.0)
"""Seconds between two looks at a board that has nothing for it: the first, and the longest."""


@dataclass
class Agent:
    """One worker's hand at the board. `work` returns when nothing is left, or after `stop`, from another thread."""

    board: Board
    plan: Plan
    store: Store
    on_event: Callable[[dict[str, Any]], None]
    """Told of everything as it happens; what others have to know is said on the board, too."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of its worker, such as the number of threads."""

    def __post_init__(self) -> None:
        self.speaker = Speaker(self.board.folder, "worker")
        config = self.plan.suite.config
        self.supervisor = Supervisor(
            self.store,
            config.device,
            self._on_event,
            config.judge_budget,
            config.cell_minutes,
            self.environment,
        )
        self._at_work: dict[str, Any] | None = None
        self.n_ended = 0
        """Cells that have ended here."""
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        return self.speaker.name

    def work(self) -> None:
        """Do jobs until none is left."""
        with self.speaker.present(lambda: self._at_work), self.supervisor:
            self._work()

    def stop(self) -> None:
        """End the work; the job at hand is given back."""
        self._stopped.set()
        self.supervisor.cancel()

    def _work(self) -> None:
        pause = _PAUSES[0]
        while not self._stopped.is_set():
            for _ in self.board.refresh():
                pass
            if self.board.is_complete or self.board.is_replaced:
                return
            claim = self.board.claim(self.name, self.supervisor.plugin_files)
            if claim is None:
                self._stopped.wait(pause)
                pause = min(2 * pause, _PAUSES[1])
                continue
            pause = _PAUSES[0]
            try:
                self._do(claim)
            except BaseException as error:
                with suppress(OSError):
                    self.speaker.say({"event": "given back", "claim": claim.name})
                if not isinstance(error, Cancelled):
                    raise
            else:
                self.speaker.say({"event": "job done", "job": claim.job.id})
            finally:
                self._at_work = None

    def _do(self, claim: Claim) -> None:
        self._on_event({"event": "job", "job": claim.job.id})
        cells = [self.plan.cells[key] for key in claim.job.cells if key not in self.board.ended]
        ready = [cell for cell in cells if not self._skip(cell)]
        if claim.job.part is not None:
            if ready and self.board.n_gone_with(claim.job) < _MAX_DEATHS:
                self.supervisor.run_range(ready, claim.job.part)
            return
        if not self.board.n_gone_with(claim.job):  # nobody has had it, or all have given it back
            if ready:
                self.supervisor.run(ready)
            return
        for cell in ready:  # perhaps it was for one of its cells that another agent is gone
            self._do_alone(cell)

    def _do_alone(self, cell: Cell) -> None:
        if self.board.deaths(cell.key) >= _MAX_DEATHS:
            error = (
                f"{_MAX_DEATHS} workers were gone, with all that supervised them, while they did this cell alone. "
                "Out of memory, or their machines were taken away? Run again to try anew."
            )
            self.supervisor.end(cell, Record("failed", "WorkerGone", error))
            return
        self.speaker.say({"event": "alone", "key": cell.key})
        self.supervisor.run([cell])

    def _skip(self, cell: Cell) -> bool:
        """Record a cell as skipped, and return True, if a cell that it needs has failed or was skipped."""
        for key in cell.upstream:
            record = self.store.end(key)
            label = self.plan.cells[key].label
            if record is None and (key in self.board.put_off or key in self.store.damaged):
                reason = f"{label} is still to do"
                self._on_event({"event": "cell", "key": cell.key, "status": "to do", "error": reason})
                return True
            if record is None:
                raise StoreError(f"{label} has no record, though it comes before {cell.label}.")
            if record.status != "done":
                cause = (record.error or "").splitlines()[0][:200]
                if record.status == "failed":
                    skipped = Record("skipped", UPSTREAM_FAILED, f"{label} failed: {cause}", record.log)
                else:  # for good, or because of a failure further up
                    skipped = Record("skipped", record.error_type, cause, record.log)
                self.supervisor.end(cell, skipped)
                return True
        return False

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            self._at_work = event
        else:
            self.speaker.say(event)
            self.n_ended += event["event"] == "cell"
        self.on_event(event | {"agent": self.name})
