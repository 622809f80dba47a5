"""Runs jobs in a worker process and survives its death: unfinished cells are retried in halves, down to single ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.planning.cells import Cell
from harness.planning.suite import UNLIMITED, JudgeBudget
from harness.running.provenance import provenance
from harness.storage.records import Record
from harness.storage.store import Store

OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class Supervisor:
    """Owns one worker at a time; use as a context manager, so that none is left behind."""

    store: Store
    device: str
    plugin_files: list[str]
    on_event: OnEvent
    judge_budget: JudgeBudget = UNLIMITED
    process: subprocess.Popen[str] | None = field(default=None, init=False)
    put_off: set[str] = field(default_factory=set, init=False)
    """Keys of the cells that this run leaves to do."""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, cells: list[Cell]) -> None:
        """Do the cells of one group. Afterwards each has a record or was put off."""
        left = self.attempt(cells)
        if len(left) == 1:
            self.run_alone(left[0])
        elif left:
            # In halves: one by one, a family's comparisons would take hours.
            self.run(left[: len(left) // 2])
            self.run(left[len(left) // 2 :])

    def run_alone(self, cell: Cell) -> None:
        """Retry a cell that was the only one left when the worker died; if it dies again, the cell has failed."""
        if self.attempt([cell]):
            self.bury(cell)

    def attempt(self, cells: list[Cell]) -> list[Cell]:
        """Do cells in one job; return those that had not ended when the worker died."""
        self.log = f"logs/{cells[0].kind}-{cells[0].key}.txt"
        ended: set[str] = set()
        process = self.process or self.start()
        with suppress(BrokenPipeError):  # the worker died before it was sent the job
            self.send(process, {"cells": [cell.to_json() for cell in cells], "log": self.log})
        for event in self.events(process):
            if event["event"] == "job done":
                return []
            if event["event"] == "cell":
                ended.add(event["key"])
                self.put_off |= {event["key"]} if event["status"] == "to do" else set()
            self.on_event(event)
        self.returncode = process.wait()
        self.stop()
        return [cell for cell in cells if cell.key not in ended]

    def bury(self, cell: Cell) -> None:
        """Record the failure of a cell that took its worker down twice, the second time alone."""
        how = f"exit code {self.returncode}"
        if self.returncode < 0:
            how = f"signal {signal.Signals(-self.returncode).name}"
        hint = " Out of memory?" if self.returncode == -signal.SIGKILL else ""
        error = f"the process ended ({how}) while doing this cell alone.{hint} See the log."
        self.end(cell, Record("failed", "ProcessDied", error, self.log))

    def end(self, cell: Cell, record: Record) -> None:
        """Write the record of a cell that no worker can write."""
        self.store.write_record(cell.key, replace(record, provenance=provenance(self.device)))
        self.on_event({"event": "cell", "key": cell.key, "status": record.status, "error": record.error})

    def leave(self, cell: Cell, reason: str) -> None:
        """Put off a cell that needs one that was put off."""
        self.put_off.add(cell.key)
        self.on_event({"event": "cell", "key": cell.key, "status": "to do", "error": reason})

    def start(self) -> subprocess.Popen[str]:
        # -P: a folder named harness or plugins where the user stands must not hide ours.
        command = [sys.executable, "-P", "-m", "harness.running.worker"]
        startup_log = self.store.results / "logs" / "worker.txt"
        startup_log.parent.mkdir(parents=True, exist_ok=True)
        with startup_log.open("a") as log:
            self.process = subprocess.Popen(  # noqa: S603  # fixed words
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                # Threads that spin while they wait take the cores from each other as soon as anything else runs: beside
                # one busy process an SAE took five times as long on two threads as on one.
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            )
        setting = {
            "results": str(self.store.results),
            "cache": str(self.store.cache),
            "device": self.device,
            "plugin_files": [str(Path(file).absolute()) for file in self.plugin_files],
            "judge_budget": vars(self.judge_budget),
        }
        with suppress(BrokenPipeError):  # the worker died at once
            self.send(self.process, setting)
        ready = next(iter(self.events(self.process)), None)
        if ready is not None and "error" in ready:
            raise HarnessError(ready["error"])
        if ready is not None:
            self.device = ready["device"]
        return self.process  # dead or alive: the end of the job tells, as it does of any later death

    def send(self, process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None  # opened as a pipe
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()

    def events(self, process: subprocess.Popen[str]) -> Iterable[dict[str, Any]]:
        assert process.stdout is not None  # opened as a pipe
        for line in process.stdout:
            if line.endswith("\n"):  # else the worker died while it wrote the line
                yield json.loads(line)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with suppress(BrokenPipeError):  # what it had not read yet
                    pipe.close()
        self.process = None
