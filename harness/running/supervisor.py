"""Runs jobs in a worker process and survives its death: unfinished cells are retried in halves, down to single ones."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from harness.capturing.chunks import Range
from harness.errors import HarnessError
from harness.planning.cells import Cell
from harness.planning.suite import UNLIMITED, JudgeBudget
from harness.running.logs import cut_log
from harness.running.provenance import provenance
from harness.storage.processes import Process
from harness.storage.records import Record
from harness.storage.store import Store

OnEvent = Callable[[dict[str, Any]], None]

_SECONDS_PER_LOOK = 0.5
"""Time between looks at a worker that says nothing."""
_SECONDS_TO_START = 600.0
"""Time for a worker to be ready, where cells have a limit."""
_SECONDS_TO_EXIT = 2.0
"""Time for a worker to end that has closed its pipe."""
_MAX_LINE = 1_000_000
"""Characters of the longest event; what plugins write may have no end of a line."""
_STARTUP_LOG = "logs/worker.txt"
_EVENTS: Mapping[str, set[str]] = {
    "ready": set(),
    "progress": {"text", "done", "total"},
    "warning": {"text"},
    "cell": {"key", "status", "error"},
    "damaged": {"key", "text"},
    "job done": set(),
}
"""Kinds of event, and what belongs to each."""


class Cancelled(Exception):
    """The run ends while a job is being done; its cells stay to do."""


@dataclass
class Supervisor:
    """Owns one worker at a time; use as a context manager, so that none is left behind.

    Plugins that came as single files have workers of their own.
    """

    store: Store
    device: str
    on_event: OnEvent
    judge_budget: JudgeBudget = UNLIMITED
    cell_minutes: float | None = None
    """Minutes that a cell may take; n cells of one job have n times as long."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the worker beside those of this process."""
    threads: int | None = field(default=None, init=False)
    """Threads of the worker, once it is ready."""
    process: subprocess.Popen[str] | None = field(default=None, init=False)
    is_cancelled: bool = field(default=False, init=False)
    is_overdue: bool = field(default=False, init=False)
    """True if the last job took too long."""
    ending: str = field(default="", init=False)
    """The way in which the last worker ended, for people."""
    plugin_files: tuple[str, ...] = field(default=(), init=False)
    """The files whose code the worker has run: one that does without is not to feel what they have changed."""
    log: str = field(default="", init=False)
    """The log of the job, relative to the results folder."""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, cells: list[Cell]) -> None:
        """Do the cells of one group. Afterwards each has a record or was put off."""
        left = self.attempt(cells)
        if self.is_overdue and len(cells) == 1:
            self.bury(cells[0])
        elif len(left) == 1:
            self.run_alone(left[0])
        elif left:
            # In halves: one by one, a family's comparisons would take hours.
            self.run(left[: len(left) // 2])
            self.run(left[len(left) // 2 :])

    def run_range(self, cells: list[Cell], part: Range) -> None:
        """Do one range of cells, and once more if the worker dies; they end in a later job, which does what is left."""
        if self.attempt(cells, part) and not self.is_overdue:
            self.attempt(cells, part)

    def run_alone(self, cell: Cell) -> None:
        """Retry a cell that was the only one left when the worker died; if it dies again, the cell has failed."""
        if self.attempt([cell]):
            self.bury(cell)

    def attempt(self, cells: list[Cell], part: Range | None = None) -> list[Cell]:
        """Do cells in one job, or a range of them, in which they don't end.

        Returns:
            Those that had not ended when the worker died, or that have left no record.
        """
        self.log = f"logs/{cells[0].kind}-{cells[0].key}.txt"
        ended: set[str] = set()
        process = self.worker(cells[0].plugin_files)
        with suppress(BrokenPipeError):  # the worker died before it was sent the job
            self.send(process, {"cells": [cell.to_json() for cell in cells], "log": self.log, "part": part})
        self.is_overdue, self.ending = False, ""
        is_whole = False
        for event in self.events(seconds=60 * self.cell_minutes * len(cells) if self.cell_minutes else None):
            is_whole = event["event"] == "job done"
            if is_whole:
                break
            if event["event"] == "cell":
                if not self.is_recorded(event):
                    continue
                ended.add(event["key"])
            self.on_event(event)
        left = [] if part and is_whole else [cell for cell in cells if cell.key not in ended]
        if not is_whole:
            self.see_off(process)
        elif left:
            self.ending = "it was said to be done, but left no record that can be read"
            self.stop()
        self.cut_logs()
        return left

    def worker(self, plugin_files: tuple[str, ...]) -> subprocess.Popen[str]:
        """A worker that has run the code of these files and no other's."""
        if self.process is not None and self.plugin_files != plugin_files:
            self.stop()
        self.plugin_files = plugin_files
        return self.process or self.start()

    def see_off(self, process: subprocess.Popen[str]) -> None:
        """End what is left of a worker that has died, or has to, and say how it did."""
        if not self.is_overdue and not self.ending:
            with suppress(subprocess.TimeoutExpired):  # its own exit code says more than that it was ended
                process.wait(timeout=_SECONDS_TO_EXIT)
        code = process.poll()
        self.stop()
        if code is None:
            how, hint = "was ended, as it had closed its pipe,", ""
        else:
            how = f"ended ({f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'})"
            hint = " Out of memory?" if code == -signal.SIGKILL else ""
        self.ending = self.ending or f"the process {how} while doing this cell alone.{hint} See the log."

    def is_recorded(self, event: Mapping[str, Any]) -> bool:
        """True if a cell that a worker says has ended has the record of that end, or is put off."""
        record = self.store.end(event["key"])
        return event["status"] == "to do" or (record is not None and record.status == event["status"])

    def cancel(self) -> None:
        """End the worker, from another thread; whoever waits for it gets `Cancelled`."""
        self.is_cancelled = True
        self.stop()

    def bury(self, cell: Cell) -> None:
        """Record the failure of a cell that took its worker down twice, the second time alone."""
        if self.is_overdue:
            error = f"it took longer than cell_minutes, {self.cell_minutes:g}, and was ended. Give it longer, or none."
            self.end(cell, Record("failed", "TimeLimit", error, self.log))
            return
        self.end(cell, Record("failed", "ProcessDied", self.ending, self.log))

    def end(self, cell: Cell, record: Record) -> None:
        """Write the record of a cell that no worker can write."""
        # Skipped ones ran nowhere: whether a worker has told its device by then is luck, and tables must not differ.
        ran_on = (None, None) if record.status == "skipped" else (self.device, self.threads)
        self.store.write_record(cell.key, replace(record, provenance=provenance(*ran_on)))
        self.on_event({"event": "cell", "key": cell.key, "status": record.status, "error": record.error})

    def start(self) -> subprocess.Popen[str]:
        # -P: a folder named harness or plugins where the user stands must not hide ours.
        command = [sys.executable, "-P", "-m", "harness.running.worker"]
        startup_log = self.store.results / _STARTUP_LOG
        startup_log.parent.mkdir(parents=True, exist_ok=True)
        with startup_log.open("a") as log:
            self.process = subprocess.Popen(  # noqa: S603  # fixed words
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
                # What a plugin starts ends with it: else it would hold the pipe, and locks, for ever.
                start_new_session=True,
                # Threads that spin while they wait take the cores from each other as soon as anything else runs: beside
                # one busy process an SAE took five times as long on two threads as on one.
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **self.environment},
            )
        self.on_event({"event": "worker", "process": asdict(Process.of(self.process.pid))})
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        word = secrets.token_hex(8)
        threading.Thread(target=_read_lines, args=(self.process.stdout, f"{word} ", self.lines), daemon=True).start()
        if self.is_cancelled:
            self.stop()
        with suppress(BrokenPipeError):  # the worker died at once
            self.send(self.process, {"word": word, **self.setting()})
        process = self.process
        # A card that does not answer hangs it, too: the time of the job then runs without it.
        ready = next(iter(self.events(_SECONDS_TO_START if self.cell_minutes else None)), None)
        if ready is not None and "error" in ready:
            raise HarnessError(ready["error"])
        if ready is not None:
            self.device, self.threads = ready["device"], ready["threads"]
        return process  # dead or alive: the end of the job tells, as it does of any later death

    def setting(self) -> dict[str, Any]:
        return {
            "results": str(self.store.results),
            "cache": str(self.store.cache),
            "device": self.device,
            "plugin_files": [str(Path(file).absolute()) for file in self.plugin_files],
            "judge_budget": vars(self.judge_budget),
        }

    def send(self, process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None  # opened as a pipe
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()

    def events(self, seconds: float | None = None) -> Iterator[dict[str, Any]]:
        """Events that the worker tells of, until it dies, tells nonsense or takes longer than these seconds."""
        begin = looked_at = time.monotonic()
        while True:
            if self.is_cancelled:
                raise Cancelled
            if time.monotonic() - looked_at > _SECONDS_PER_LOOK:
                self.cut_logs()
                looked_at = time.monotonic()
            try:
                line = self.lines.get(timeout=_SECONDS_PER_LOOK)
            except queue.Empty:
                if seconds is not None and time.monotonic() - begin > seconds:
                    self.is_overdue = True
                    return
                if self.process is None or self.process.poll() is not None:
                    return  # though the pipe is open: something that it has started lives on
                continue
            if not line:
                if self.is_cancelled:
                    raise Cancelled
                return
            event = _event(line)
            if event is None:
                self.ending = "its worker told nonsense: what all of Python rests on was changed in it. See the log."
                return
            yield event

    def cut_logs(self) -> None:
        """Keep what plugins print within bounds."""
        for log in {self.log, _STARTUP_LOG} - {""}:
            cut_log(self.store.results / log)

    def stop(self) -> None:
        """End the worker and all that it has started."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin:
            with suppress(BrokenPipeError):  # what it had not read yet
                process.stdin.close()


def _read_lines(pipe: TextIO, word: str, lines: queue.SimpleQueue[str]) -> None:
    """Pass on what follows the worker's word on a line, and an empty text at the end: the rest is a plugin's."""
    with pipe:
        while line := pipe.readline(_MAX_LINE):
            if line.startswith(word) and line.endswith("\n"):
                lines.put(line.removeprefix(word))
    lines.put("")


def _event(line: str) -> dict[str, Any] | None:
    """The event that a line tells of; None if it is none."""
    try:
        event = json.loads(line)
        is_event = set(event) >= _EVENTS[event["event"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return event if is_event else None
