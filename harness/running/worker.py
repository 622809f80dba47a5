"""The process that does the work: reads jobs from its standard input, writes events to its standard output.

Plugins run here, so that one that crashes takes down this process and not the run: the parent sees it and goes on.
Start: `python -m harness.running.worker`; the first line is the setting, every further line a job.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from harness.capturing.chunks import Range
from harness.errors import ConfigError
from harness.planning.cells import Cell
from harness.planning.suite import JudgeBudget
from harness.registry.plugin_manager import load_catalog
from harness.running.devices import find_device
from harness.running.provenance import n_threads
from harness.running.session import Session
from harness.storage.processes import end_with_parent
from harness.storage.store import Store

_STDIN, _STDOUT, _STDERR = range(3)
_HARNESS = Path(__file__).parents[1]
_LIBRARIES = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}


def main() -> None:
    """Serve jobs until the input ends."""
    jobs, events = _take_pipes()
    end_with_parent(_end_group)
    setting = json.loads(jobs.readline())

    def emit(event: dict[str, Any]) -> None:
        # On a line of its own, and with the parent's word: a plugin may have written to the pipe, too.
        events.write(f"\n{setting['word']} {json.dumps(event)}\n")

    store = Store(Path(setting["results"]), Path(setting["cache"]))
    catalog = load_catalog(tuple(setting["plugin_files"]))
    budget = JudgeBudget(**setting["judge_budget"])
    try:
        device = find_device(setting["device"])
    except ConfigError as error:
        emit({"event": "ready", "error": str(error)})
        return
    emit({"event": "ready", "device": str(device), "threads": n_threads()})
    for line in jobs:
        job = json.loads(line)
        cells = [Cell.from_json(cell) for cell in job["cells"]]
        with _Log(store.results / job["log"]):
            session = Session(store, catalog, device, job["log"], emit, budget)
            _run(cells, session, job["part"] and Range(*job["part"]))
        emit({"event": "job done"})


def _take_pipes() -> tuple[TextIO, TextIO]:
    """The parent's pipes, moved out of the reach of plugins: their input is empty, and their output goes to a log."""
    jobs = os.fdopen(os.dup(sys.stdin.fileno()))
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)
    os.dup2(_STDERR, _STDOUT)
    return jobs, events


def _run(cells: list[Cell], session: Session, part: Range | None) -> None:
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show_warning, session, warnings.showwarning)
        if part is None:
            _run_stage(cells, session)
        else:
            _run_range(cells, session, part)


def _show_warning(session: Session, log: Callable[..., None], message: Warning, category: Any, *where: Any) -> None:
    """Tell the user what the harness or a plugin file warns of; what libraries warn of is for the log."""
    file = Path(where[0])
    is_library = any(file.is_relative_to(folder) for folder in _LIBRARIES) and not file.is_relative_to(_HARNESS)
    if issubclass(category, UserWarning) and file.is_file() and not is_library:
        session.warn(str(message))
    else:
        log(message, category, *where)


def _run_stage(cells: list[Cell], session: Session) -> None:
    try:
        _stage(cells).run(cells, session)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a plugin raised, sys.exit too, is the result of the cells that are left
        for cell in cells:
            if cell.key not in session.ended:
                session.fail(cell, error, traceback.format_exc())


def _run_range(cells: list[Cell], session: Session, part: Range) -> None:
    """Do one range of some cells; what fails here is tried again, and recorded, by the job that ends them."""
    try:
        _stage(cells).run_range(cells, session, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        traceback.print_exc()
        session.warn(f"{cells[0].label}, range {part.number + 1} of {part.n}: {error!r}. It is tried again at the end.")


def _stage(cells: list[Cell]) -> Any:
    return importlib.import_module(f"harness.stages.{cells[0].kind}")


class _Log:
    """Sends everything that any code prints while a job runs to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file: TextIO = path.open("a")

    def __enter__(self) -> None:
        _flush()
        for descriptor in (_STDOUT, _STDERR):
            os.dup2(self.file.fileno(), descriptor)

    def __exit__(self, *_: object) -> None:
        _flush()
        self.file.close()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a plugin has closed it, or put something else in its place
            stream.flush()


def _end_group() -> None:
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)  # what a plugin has started, too: a supervisor gives every worker a group
    os._exit(1)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # an ordinary exit would wait for threads that a plugin has left, and the parent for it
    os._exit(0)
