"""Repair: what is damaged is named and set aside, so that a run makes it again.

A run looks at sizes before it begins; checksums are compared by whoever reads an artefact, when it does.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.planning.plan import Plan
from harness.storage.store import ARTEFACT_KINDS, Store


def discard_damaged(plan: Plan, store: Store, say: Callable[[str], None], *, read: bool = False) -> bool:
    """Discard damaged artefacts of a plan, and their records; True if there are some.

    Args:
        plan: the plan.
        store: the store.
        say: told of each that is damaged.
        read: compare checksums, and not sizes alone.
    """
    found = False
    for cell in plan.cells.values():
        if cell.kind in ARTEFACT_KINDS and (damage := discard_if_damaged(store, cell.kind, cell.key, say, read=read)):
            say(f"{damage}: {cell.label} is made again")
            store.record_path(cell.key).unlink(missing_ok=True)
            found = True
    return found


def discard_if_damaged(
    store: Store, kind: str, key: str, say: Callable[[str], None], *, read: bool = True
) -> str | None:
    """Discard an artefact that is damaged, whatever this process has found before; return the damage.

    Args:
        store: the store.
        kind: of the artefact.
        key: its key.
        say: told for whom this process waits.
        read: compare checksums, and not sizes alone.
    """
    if not store.damage(kind, key, read=read):
        return None
    with store.lock(kind, key, say):
        damage = store.damage(kind, key, read=read)  # another run may have repaired it meanwhile
        if damage:
            store.discard(kind, key)
    return damage
