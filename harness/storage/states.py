"""Where the cells of a plan stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.records import UPSTREAM_FAILED
from harness.storage.store import ARTEFACT_KINDS, Store


@dataclass(frozen=True)
class Outcome:
    """How many cells ended how, which failed, and why others were skipped."""

    counts: Counter[str]
    failed: list[tuple[Cell, State]]
    skipped: dict[str, list[Cell]]
    """By reason."""


def outcome(plan: Plan, store: Store) -> Outcome:
    """How the cells of a plan stand."""
    counts: Counter[str] = Counter()
    skipped: dict[str, list[Cell]] = {}
    failed = []
    for key, state in states(plan, store).items():
        record = None if state == State("done") else store.record(key)  # which is read already, and says no more
        # To a run these are to do; to whoever reads its outcome they were skipped.
        is_skipped = state.name == "skipped" or (record is not None and record.error_type == UPSTREAM_FAILED)
        counts["skipped" if is_skipped else state.name] += 1
        if is_skipped:
            skipped.setdefault(state.reason or (record and record.error) or "", []).append(plan.cells[key])
        elif state.name == "failed":
            failed.append((plan.cells[key], state))
    return Outcome(counts, failed, skipped)


@dataclass(frozen=True)
class State:
    """Where a cell stands: `done`, `to do`, `failed` or `skipped`, and why."""

    name: str
    reason: str | None = None


def states(plan: Plan, store: Store) -> dict[str, State]:
    """Where each cell stands. An artefact that is gone counts as to do only where something still needs it."""
    found: dict[str, State] = {}
    needed: set[str] = set()
    for key, cell in reversed(list(plan.cells.items())):
        state = _state(cell, store)
        leaves_artefact = cell.kind in ARTEFACT_KINDS
        has_artefact = leaves_artefact and store.whole(cell.kind, key) is not None
        if state.name == "done" and key in needed and leaves_artefact and not has_artefact:
            state = State("to do", "its artefact is gone from the cache and is needed again")
        elif state == State("to do") and has_artefact:  # where the record lacks something its rows are old
            state = State("done", "in the cache")
        if state.name in ("to do", "failed"):
            needed.update(cell.upstream)
        found[key] = state
    return dict(reversed(list(found.items())))


def _state(cell: Cell, store: Store) -> State:
    if cell.skipped:
        return State("skipped", cell.skipped)
    record = store.record(cell.key)
    if record is None or record.error_type == UPSTREAM_FAILED:  # what it waited for is tried again, and so is it
        return State("to do")
    return State("to do", record.incomplete) if record.incomplete else State(record.status, record.error)
