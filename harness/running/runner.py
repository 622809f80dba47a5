"""Runs a plan: the cells that are to do, group by group, until every cell has a record."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import filelock

from harness.errors import StoreError
from harness.planning.cells import Cell
from harness.planning.config import dump_resolved
from harness.planning.plan import Plan
from harness.registry.plugin_manager import Catalog
from harness.running.supervisor import Supervisor
from harness.storage.records import UPSTREAM_FAILED, Record
from harness.storage.states import Outcome, outcome, states
from harness.storage.store import ARTEFACT_KINDS, RESOLVED, Store


class Display(Protocol):
    """Shows the progress of a run to whoever waits for it."""

    def say(self, text: str) -> None: ...

    def begin(self, n_cells: int) -> None: ...

    def event(self, event: dict[str, Any], cell: Cell | None) -> None: ...


def run(plan: Plan, store: Store, display: Display) -> Outcome:
    """Do all cells that are to do. A failure becomes a record; cells that were done stay done."""
    with _alone(store, display):
        (store.results / RESOLVED).write_text(dump_resolved(plan.suite.config))
        _discard_damaged(plan, store, display)
        _adopt(plan, store)
        before = states(plan, store)
        todo = [plan.cells[key] for key, state in before.items() if state.is_todo]
        display.begin(len(todo))
        config = plan.suite.config
        forward = _forward(plan, display)
        with Supervisor(store, config.device, config.plugin_files, forward, config.judge_budget) as supervisor:
            for group in _groups(todo):
                ready = [cell for cell in group if not _skip(cell, plan, store, supervisor)]
                if ready:
                    supervisor.run(ready)
    return outcome(plan, store, before)


def changed_code(plan: Plan, store: Store, catalog: Catalog) -> list[str]:
    """Warnings about single-file methods whose code has changed since stored fits were made, but not their version."""
    changed = []
    for cell in plan.of_kind("fit"):
        name = str(cell.work["method"]["name"])
        manifest = store.manifest("fit", cell.key)
        registered = catalog.find("method", name)
        if manifest and registered.is_file and manifest["provenance"].get("plugin_code") != registered.version:
            changed.append(
                f"method {name!r}: stored fits were made by another {registered.source} of the same version "
                f"{registered.spec.version}. If its results changed, raise the version in its Spec."
            )
    return list(dict.fromkeys(changed))


@contextmanager
def _alone(store: Store, display: Display) -> Iterator[None]:
    """Make two runs of one suite in one folder take turns; the second finds the work of the first done."""
    store.results.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(store.results / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        display.say(f"another run is at work in {store.results}; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _discard_damaged(plan: Plan, store: Store, display: Display) -> None:
    for key, cell in plan.cells.items():
        if cell.kind not in ARTEFACT_KINDS or not store.damage(cell.kind, key):
            continue
        with store.lock(cell.kind, key):
            if damage := store.damage(cell.kind, key):  # another run may have repaired it meanwhile
                display.say(f"{damage}: {cell.label} is made again")
                store.discard(cell.kind, key)
        store.record_path(key).unlink(missing_ok=True)


def _adopt(plan: Plan, store: Store) -> None:
    """Write records here for artefacts that another suite has made."""
    for key, cell in plan.cells.items():
        if cell.kind in ARTEFACT_KINDS and not cell.skipped and store.record(key) is None:
            manifest = store.whole(cell.kind, key)
            if manifest is not None:
                store.write_record(key, Record("done", rows=manifest["cost"], provenance=manifest["provenance"]))


def _groups(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Groups of cells that share work, in the order of the plan."""
    order = {group: i for i, group in enumerate(dict.fromkeys((cell.kind, cell.group) for cell in cells))}
    for _, group in itertools.groupby(
        sorted(cells, key=lambda cell: order[cell.kind, cell.group]), lambda cell: (cell.kind, cell.group)
    ):
        yield list(group)


def _skip(cell: Cell, plan: Plan, store: Store, supervisor: Supervisor) -> bool:
    """Record a cell as skipped, and return True, if a cell that it needs has failed or was skipped."""
    for key in cell.upstream:
        record = store.record(key)
        if record is None and key in supervisor.put_off:
            supervisor.leave(cell, f"{plan.cells[key].label} is still to do")
            return True
        if record is None:
            raise StoreError(f"{plan.cells[key].label} has no record, though it comes before {cell.label}.")
        if record.status != "done":
            cause = (record.error or "").splitlines()[0][:200]
            if record.status == "failed":
                supervisor.end(
                    cell, Record("skipped", UPSTREAM_FAILED, f"{plan.cells[key].label} failed: {cause}", record.log)
                )
            else:  # for good, or because of a failure further up
                supervisor.end(cell, Record("skipped", record.error_type, cause, record.log))
            return True
    return False


def _forward(plan: Plan, display: Display) -> Callable[[dict[str, Any]], None]:
    return lambda event: display.event(event, plan.cells.get(event.get("key", "")))
