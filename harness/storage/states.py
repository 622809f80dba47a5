"""The states of a plan's cells: done, to do, failed or skipped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.records import UPSTREAM_FAILED
from harness.storage.store import ARTEFACT_KINDS, Store


@dataclass(frozen=True)
class State:
    """The state of one cell, and the reason where there is one."""

    name: Literal["done", "to do", "failed", "skipped"]
    reason: str | None = None
    upstream_failed: str | None = None
    """The failure for which the last run skipped the cell. The next run tries again, so the cell is to do."""

    @property
    def is_todo(self) -> bool:
        """True for a cell that a run takes up: one that is to do, or that failed."""
        return self.name in ("to do", "failed")


@dataclass(frozen=True)
class Outcome:
    """The end of a run: numbers of cells by state, the cells that failed, and those that were skipped and why."""

    counts: Counter[str]
    failed: list[tuple[Cell, State]]
    skipped: dict[str, list[Cell]]
    """Skipped cells by the reason."""
    has_answers: bool
    """True if a cell is done that answers what the suite asks: captures do it only in a suite that has nothing else,
    fits only where nothing rests on them."""


def outcome(plan: Plan, store: Store, before: Mapping[str, State] | None = None) -> Outcome:
    """The outcome of a plan.

    Args:
        plan: the plan.
        store: the store.
        before: states before the run that just ended, which it can have changed only for cells that were to do.
    """
    counts: Counter[str] = Counter()
    skipped: dict[str, list[Cell]] = {}
    failed = []
    done: set[str] = set()
    for key, state in states(plan, store, before).items():
        # The next run takes up a cell whose upstream failed; to whoever reads the outcome of this one it was skipped.
        name = "skipped" if state.upstream_failed is not None else state.name
        counts[name] += 1
        done |= {plan.cells[key].kind} if name == "done" else set()
        if name == "skipped":
            skipped.setdefault(state.reason or state.upstream_failed or "", []).append(plan.cells[key])
        elif name == "failed":
            failed.append((plan.cells[key], state))
    kinds = {cell.kind for cell in plan.cells.values()}
    asked = kinds - {"capture", "fit"} or kinds - {"capture"} or kinds
    return Outcome(counts, failed, skipped, has_answers=bool(done & asked))


def states(plan: Plan, store: Store, before: Mapping[str, State] | None = None) -> dict[str, State]:
    """The state of every cell. An artefact that is gone makes its cell to do only if another that is to do needs it.

    Args:
        plan: the plan.
        store: the store.
        before: states found earlier. Records are looked at again only of cells that were to do then, and of those that
            were made from what these leave.
    """
    found: dict[str, State] = {}
    needed: set[str] = set()
    before = before or {}
    for key, cell in reversed(list(plan.cells.items())):
        is_known = key in before and not any(before[own].is_todo for own in (key, *cell.upstream))
        state = before[key] if is_known else _recorded(cell, store)
        if cell.kind in ARTEFACT_KINDS:
            state = _with_artefact(state, cell, store, key in needed)
        if state.is_todo:
            needed.update(cell.upstream)
        found[key] = state
    return dict(reversed(list(found.items())))


def _recorded(cell: Cell, store: Store) -> State:
    """The state of a cell by its record alone."""
    if cell.skipped:
        return State("skipped", cell.skipped)
    record = store.end(cell.key)
    if record is None:
        return State("to do", store.damaged.get(cell.key))
    if record.error_type == UPSTREAM_FAILED:
        return State("to do", upstream_failed=record.error or "")
    return State("to do", record.incomplete) if record.incomplete else State(record.status, record.error)


def _with_artefact(state: State, cell: Cell, store: Store, is_needed: bool) -> State:
    """The state of a cell that leaves an artefact; the artefact is looked at only where it makes a difference."""
    if state.name == "done" and is_needed and store.made(cell) is None:
        was_made_without = store.whole(cell.kind, cell.key) is not None
        lacking = (
            "its rows are not stored and are" if was_made_without else "its artefact is gone from the cache and is"
        )
        return State("to do", f"{lacking} needed again")
    # Only without a record: where one lacks something, its table rows are old, even if the artefact is whole by now.
    if state == State("to do") and store.made(cell) is not None:
        return State("done", "in the cache")
    return state
