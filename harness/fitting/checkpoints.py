"""Checkpoints of long fits: one file a learner, replaced as a whole, so that a killed run goes on and ends the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harness.fitting.snapshots import Snapshot


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
                self._save(self.path_of(name), *take())
            except (OSError, SafetensorError) as error:
                self.warn(f"no checkpoint of the fit could be written: {error}. It goes on without.")
        ended = time.monotonic()
        self._due = ended + max(self.every_seconds, (ended - started) / self.max_share)

    def load(self, name: str) -> tuple[Snapshot, Any] | None:
        """The checkpoint saved last; None if there is none that can be read."""
        try:
            with safe_open(self.path_of(name), framework="pt") as file:
                described = json.loads(file.metadata()["checkpoint"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        return Snapshot(tensors, described["skeleton"]), described["standing"]

    def discard(self, name: str) -> None:
        self.path_of(name).unlink(missing_ok=True)

    def _save(self, path: Path, snapshot: Snapshot, standing: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        described = {"checkpoint": json.dumps({"skeleton": snapshot.skeleton, "standing": standing})}
        # Clones: names may share memory, which safetensors refuses.
        tensors = {key: tensor.cpu().clone().contiguous() for key, tensor in snapshot.tensors.items()}
        save_file(tensors, partial, described)
        partial.replace(path)
