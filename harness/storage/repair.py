"""Repair before a run: whatever it is about to use is read, and what is damaged is discarded and made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.made import SHOWN_KINDS
from harness.storage.states import states
from harness.storage.store import ARTEFACT_KINDS, Store


def discard_damaged(plan: Plan, store: Store, say: Callable[[str], None], *, read_all: bool = False) -> None:
    """Discard damaged artefacts of a plan, and their records.

    Those are read that results show, and those that cells which are to do rest on, and again for what is to do because
    of that; of the others the sizes are looked at.

    Args:
        plan: the plan.
        store: the store.
        say: told of each that is damaged.
        read_all: read the others too.
    """
    for cell in _artefacts(plan):
        _discard_if_damaged(cell, store, say, read=read_all or cell.kind in SHOWN_KINDS)
    was_read: set[str] = set()
    while not read_all:
        todo = [plan.cells[key] for key, state in states(plan, store).items() if state.is_todo]
        needed = {key for cell in todo for key in cell.upstream} - was_read
        was_read |= needed
        found = [_discard_if_damaged(cell, store, say, read=True) for cell in _artefacts(plan) if cell.key in needed]
        if not any(found):
            return


def _artefacts(plan: Plan) -> Iterator[Cell]:
    return (cell for cell in plan.cells.values() if cell.kind in ARTEFACT_KINDS)


def _discard_if_damaged(cell: Cell, store: Store, say: Callable[[str], None], *, read: bool) -> bool:
    if not store.damage(cell.kind, cell.key, read=read):
        return False
    with store.lock(cell.kind, cell.key, say):
        if damage := store.damage(cell.kind, cell.key, read=read):  # another run may have repaired it meanwhile
            say(f"{damage}: {cell.label} is made again")
            store.discard(cell.kind, cell.key)
    store.record_path(cell.key).unlink(missing_ok=True)
    return True
