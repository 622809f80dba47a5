"""Repairs in a run: artefacts that workers found damaged or gone, for which the run takes another turn.

The worker has discarded what was damaged, and put off the cells that rest on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.planning.plan import Plan
from harness.storage.records import Record
from harness.storage.states import Outcome
from harness.storage.store import Store

_MAX_TURNS = 3
"""Turns for which one artefact may be the reason: a disk or memory that damages it again and again does so for ever."""


@dataclass
class Repairs:
    """Damaged artefacts that were found in this turn of a run, and how often in all of it."""

    plan: Plan
    store: Store
    failed: set[str] = field(default_factory=set)
    """Keys of cells that have failed in this run, which further turns leave alone."""
    gave_up: bool = False
    """True once cells have failed for an artefact that was damaged again and again."""
    _found: dict[str, str] = field(default_factory=dict)
    """Keys of artefacts found damaged in this turn, and what is said of each."""
    _turns: Counter[str] = field(default_factory=Counter)

    def note(self, event: Mapping[str, Any]) -> str | None:
        """Take notice of an event; what there is to say of it."""
        if event["event"] != "damaged" or event["key"] in self._found or event["key"] not in self.plan.cells:
            return None
        self._found[event["key"]] = event["text"]
        return f"{event['text']}: {self.plan.cells[event['key']].label} is made again"

    def take_turn(self, ended: Outcome) -> bool:
        """True if there is to be another turn after one that ended so; the next one begins with this."""
        found, self._found = self._found, {}
        self.failed |= {cell.key for cell, _ in ended.failed}
        self._turns.update(found.keys())
        for key in found:
            if self._turns[key] >= _MAX_TURNS:
                self._give_up(key, found[key])
        return any(self._turns[key] < _MAX_TURNS for key in found)

    def _give_up(self, key: str, damage: str) -> None:
        self.gave_up = True
        error = f"{damage}, as it was {_MAX_TURNS - 1} times before in this run. Look at the disk, and at the memory."
        for cell in self.plan.cells.values():
            record = self.store.end(cell.key)
            if key in cell.upstream and (record is None or record.incomplete):
                self.store.write_record(cell.key, Record("failed", "StoreError", error))
                self.failed.add(cell.key)
