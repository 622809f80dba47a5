"""The session of a stage inside a worker: its store, plugins and device, and its way to report."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from traceback import format_exc
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.errors import BudgetReached, bounded, text_of
from harness.planning.cells import Cell
from harness.planning.suite import UNLIMITED, JudgeBudget
from harness.registry.isolation import isolated, one_process
from harness.registry.plugin_manager import Catalog
from harness.registry.redaction import Redaction
from harness.running.provenance import n_threads, provenance
from harness.storage.records import Record, of_artefact
from harness.storage.repair import discard_if_damaged
from harness.storage.store import DamagedArtefact, Store

if TYPE_CHECKING:
    import torch


_MAX_WARNINGS = 20
_STDOUT = 1


@dataclass
class Session:
    """The surroundings of a stage. `emit` sends an event to the parent process."""

    store: Store
    catalog: Catalog
    device: torch.device
    log: str
    emit: Callable[[dict[str, Any]], None]
    judge_budget: JudgeBudget = UNLIMITED
    ended: set[str] = field(default_factory=set)
    """Keys of the cells of this job that have a record, or were put off."""
    n_warnings: int = 0
    started: float = field(default_factory=time.perf_counter)

    def create(self, kind: str, call: Mapping[str, Any]) -> Any:
        """An instance of the plugin that a cell names, with its parameters."""
        with isolated():
            return self.catalog.create(kind, call["name"], dict(call["params"]))

    def progress(self, text: str, done: int, total: int) -> None:
        self.emit({"event": "progress", "text": text, "done": done, "total": total})

    def warn(self, text: str) -> None:
        """Tell the user something worth knowing, though nothing failed; of too many warnings the log has the rest."""
        text = hidden(text)
        write_log(f"warning: {text}\n")
        self.n_warnings += 1
        if self.n_warnings <= _MAX_WARNINGS:
            more = f" (Further ones are in {self.log} only.)" if self.n_warnings == _MAX_WARNINGS else ""
            self.emit({"event": "warning", "text": bounded(text) + more})

    def done(
        self,
        cell: Cell,
        rows: list[dict[str, Any]],
        incomplete: str | None = None,
        verdicts: str | None = None,
    ) -> None:
        """Record a cell as done.

        Args:
            cell: the cell.
            rows: its table rows.
            incomplete: what the cell lacks that a later run may still get.
            verdicts: the checksum of the file beside its record.
        """
        record = Record("done", rows=rows, provenance=self.provenance(), seconds=self._lap(), incomplete=incomplete)
        self._end(cell, replace(record, made_from=self.store.made_from(cell.upstream), verdicts=verdicts))

    def empty_folder(self, cell: Cell) -> Path:
        """Make the work folder of a cell's artefact, without what an interrupted run has left there."""
        folder = self.store.work_folder(cell.kind, cell.key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def commit(
        self,
        cell: Cell,
        rows: list[dict[str, Any]],
        incomplete: str | None = None,
        digests: Mapping[str, str] = MappingProxyType({}),
        **manifest: Any,
    ) -> None:
        """Turn the work folder of a cell into its artefact, then record the cell as done.

        Args:
            cell: the cell.
            rows: its table rows.
            incomplete: what the artefact lacks that a later run may still get.
            digests: checksums of files that were computed when these were written.
            manifest: more entries for the artefact's manifest, or others in place of the usual ones.
        """
        # Stored manifests call the work of a cell "task".
        usual = {"task": dict(cell.work), "cost": rows, "provenance": self.provenance()}
        usual |= {"made_from": self.store.made_from(cell.upstream)}
        whole = usual | manifest | ({"incomplete": incomplete} if incomplete else {})
        self.store.commit(cell.kind, cell.key, whole, digests)
        self._end(cell, replace(of_artefact(whole), rows=rows, seconds=self._lap()))

    def skip(self, cell: Cell, reason: str) -> None:
        """Record a cell as skipped: it can't be done, though nothing is wrong."""
        record = Record("skipped", error=reason, provenance=self.provenance(), seconds=self._lap())
        self._end(cell, replace(record, made_from=self.store.made_from(cell.upstream)))

    def fail(self, cell: Cell, error: BaseException, traceback: str) -> None:
        """Record a cell as failed; the traceback goes to the log.

        One that lacks what it rests on is put off instead, if that is there by its record: the run makes it again.
        """
        if isinstance(error, DamagedArtefact) and self._is_made_again(error):
            self.put_off(cell, "what it rests on was damaged, and comes first")
            return
        write_log(f"\n{cell.label}\n{hidden(traceback)}\n")
        text = text_of(error)
        if isinstance(error, SystemExit):
            text = f"the plugin called sys.exit({error.code!r:.80})"
        record = Record("failed", bounded(type(error).__name__), text, self.log, [], self.provenance(), self._lap())
        self._end(cell, record)

    def _is_made_again(self, error: DamagedArtefact) -> bool:
        """Tell the run of an artefact that it has to make again; what is damaged of it is discarded."""
        record = self.store.end(error.key)
        if record is None or record.status != "done":
            return False
        try:
            discard_if_damaged(self.store, error.kind, error.key, self.warn)
        except OSError as denied:
            write_log(f"{error.damage}, and can't be discarded: {denied}\n")
            return False
        self.emit({"event": "damaged", "key": error.key, "text": error.damage})
        return True

    def put_off(self, cell: Cell, reason: str) -> None:
        """Leave a cell to do, without a record: the next run takes it up."""
        self.ended.add(cell.key)
        self.emit({"event": "cell", "key": cell.key, "status": "to do", "error": _told(reason)})

    @contextmanager
    def alone(self, cell: Cell) -> Iterator[None]:
        """Turn whatever a plugin's code raises inside, sys.exit too, into the failure of this cell and no other."""
        try:
            with one_process():
                yield
        except KeyboardInterrupt:
            raise
        except BudgetReached as reached:
            self.put_off(cell, str(reached))
        except BaseException as error:
            self.fail(cell, error, format_exc())

    @contextmanager
    def missing(self, cells: list[Cell]) -> Iterator[list[Cell]]:
        """The cells whose artefacts are missing, locked against other runs; the others are recorded as done."""
        left = self.not_made(cells)
        with ExitStack() as locks:
            for cell in sorted(left, key=lambda cell: cell.key):  # one order for all: no two runs wait for each other
                locks.enter_context(self.store.lock(cell.kind, cell.key, self.warn))
            yield self.not_made(left)

    def not_made(self, cells: list[Cell]) -> list[Cell]:
        """The cells whose artefacts are not in the store; the others are recorded as done."""
        left = []
        for cell in cells:
            if (manifest := self.store.made(cell)) is not None:
                self._end(cell, replace(of_artefact(manifest), seconds=self._lap()))
            else:
                left.append(cell)
        return left

    def provenance(self) -> dict[str, Any]:
        return provenance(str(self.device), n_threads())

    def _end(self, cell: Cell, record: Record) -> None:
        rows = [{**row, "reason": _told(row["reason"])} if row.get("reason") else row for row in record.rows]
        record = replace(record, error=_told(record.error), incomplete=_told(record.incomplete), rows=rows)
        self.store.write_record(cell.key, record)
        self.ended.add(cell.key)
        status, why = ("to do", record.incomplete) if record.incomplete else (record.status, record.error)
        self.emit({"event": "cell", "key": cell.key, "status": status, "error": why})

    def count(self, seconds: float) -> None:
        """Count time that others have spent on what the next cell takes up as time of its own."""
        self.started -= seconds

    def _lap(self) -> float:
        lap, self.started = time.perf_counter() - self.started, time.perf_counter()
        return lap


def write_log(text: str) -> None:
    """Write to the log of the job, which the standard output leads to, whatever a plugin has made of `sys.stdout`."""
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(OSError):
        os.write(_STDOUT, text.encode("utf-8", "backslashreplace"))


def hidden(text: str) -> str:
    """The text without the secrets of this process's environment, and others that are known by their form."""
    return _redaction().without_secrets(text)


@functools.cache
def _redaction() -> Redaction:
    return Redaction({})


def _told(text: str | None) -> str | None:
    """A text as records keep it: bounded, without secrets."""
    return text and bounded(hidden(text))
