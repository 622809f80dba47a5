"""Checkpoints of long fits: one file a learner, replaced as a whole, so that a killed run goes on and ends the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.fitting.snapshots import Snapshot
from harness.storage.tensor_files import save_tensors, take_up_tensors

_BEGINS_ANEW = "The fit begins anew."


@dataclass
class Checkpoints:
    """The checkpoints of the learners of one stream."""

    path_of: Callable[[str], Path]
    """The file of a checkpoint, by the learner's name."""
    warn: Callable[[str], None]
    every_seconds: float = 60.0
    max_share: float = 0.05
    """Share of the run's time that writing checkpoints may take."""
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.every_seconds

    def save_all(self, standing: Mapping[str, Callable[[], tuple[Snapshot, Any]]]) -> None:
        """Save what each learner holds, and where it stands, if it is time."""
        started = time.monotonic()
        if started < self._due:
            return
        for name, take in standing.items():
            try:
                snapshot, standing = take()
                about = {"skeleton": snapshot.skeleton, "standing": standing}
                save_tensors(self.path_of(name), snapshot.tensors, about)
            except (OSError, StoreError) as error:
                self.warn(f"no checkpoint of the fit could be written: {error}. It goes on without.")
        ended = time.monotonic()
        self._due = ended + max(self.every_seconds, (ended - started) / self.max_share)

    def load(self, name: str) -> tuple[Snapshot, Any] | None:
        """The checkpoint saved last; None if there is none, or a damaged one, of which a warning tells."""
        found = take_up_tensors(self.path_of(name), _BEGINS_ANEW)
        if found is None:
            return None
        tensors, about = found
        return Snapshot(tensors, about["skeleton"]), about["standing"]

    def refuse(self, name: str, reason: str) -> None:
        """Remove a checkpoint that does not fit its learner, with a warning."""
        self.warn(f"{self.path_of(name)} is of no use: {reason}. It is removed. {_BEGINS_ANEW}")
        self.discard(name)

    def discard(self, name: str) -> None:
        self.path_of(name).unlink(missing_ok=True)
