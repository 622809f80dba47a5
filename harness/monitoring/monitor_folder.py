"""The folder of a monitor: what it was calibrated to, which stays, and where its stream stands, written after a batch.

`decomposition/` is sealed; `reference.safetensors` and `state.safetensors` carry checksums of all that is in them. The
state is replaced whole: a monitor that was killed goes on after the last batch that it has finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from harness.contracts.decomposition import Decomposition, load
from harness.errors import ConfigError, StoreError
from harness.monitoring.documents import WatchedDocuments
from harness.monitoring.drift_watch import DriftWatch
from harness.monitoring.settings import MonitorSettings
from harness.storage.seals import folder_damage, seal_folder
from harness.storage.tensor_files import save_tensors, take_up_tensors, tensors_damages

_DECOMPOSITION, _REFERENCE, _STATE = "decomposition", "reference.safetensors", "state.safetensors"
_FORMAT = 1


@dataclass
class MonitorFolder:
    """The content of a monitor's folder."""

    path: Path
    decomposition: Decomposition
    watch: DriftWatch
    site: str
    model: Mapping[str, Any] | None
    """The model as suites have it; None where only who calibrates knows it."""
    settings: MonitorSettings
    explanations: Mapping[tuple[int, int], str]
    """Texts about latents, by index and sign."""
    tokens: Mapping[int, list[str]]
    """Tokens of the reference on which each pole is strongest."""

    def write(self) -> None:
        """Write what stays; the reference comes last, without which there is no monitor."""
        if has_monitor(self.path):
            raise ConfigError(f"monitor: {self.path} holds one already. Load it, or give another folder.")
        folder = self.path / _DECOMPOSITION
        self.decomposition.save(folder)
        seal_folder(folder, _DECOMPOSITION)
        (self.path / _STATE).unlink(missing_ok=True)  # of a monitor whose reference somebody has removed
        about = {
            "format": _FORMAT,
            "site": self.site,
            "model": self.model,
            "settings": asdict(self.settings),
            "ids": self.watch.reference.ids,
            "explanations": [[*pole, text] for pole, text in self.explanations.items()],
            "tokens": [[pole, tokens] for pole, tokens in self.tokens.items()],
        }
        save_tensors(self.path / _REFERENCE, self.watch.reference.tensors(), about)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check what stays."""
        if not has_monitor(path):
            raise ConfigError(f"monitor: {path} holds none. Make one with Monitor.calibrate.")
        tensors, about = _read(path / _REFERENCE, "Calibrate another monitor, in another folder")
        if about["format"] != _FORMAT:
            raise StoreError(f"{path}: format {about['format']}, this harness reads {_FORMAT}. Calibrate it anew.")
        if damage := folder_damage(path / _DECOMPOSITION, _DECOMPOSITION):
            raise StoreError(f"{damage}. Calibrate another monitor, in another folder.")
        decomposition = load(path / _DECOMPOSITION)
        reference = _documents(path / _REFERENCE, about["ids"], tensors, decomposition)
        settings = MonitorSettings(**about["settings"])
        explanations = {(latent, sign): text for latent, sign, text in about["explanations"]}
        watch, site, model = DriftWatch(reference, settings), about["site"], about["model"]
        return cls(path, decomposition, watch, site, model, settings, explanations, dict(about["tokens"]))

    def save_state(self, about: Mapping[str, Any]) -> None:
        """Write where the stream stands, and what is known about it, in place of what was there."""
        recent = self.watch.recent
        scores = torch.tensor(self.watch.martingale.scores, dtype=torch.float64)
        tensors = recent.tensors() | {"all_scores": scores}
        save_tensors(self.path / _STATE, tensors, {**about, "recent": recent.ids})

    def resume(self) -> dict[str, Any] | None:
        """Bring the watch to where the stream stands, and give what was saved about it; None if nothing was."""
        if not (self.path / _STATE).exists():
            return None
        tensors, about = _read(self.path / _STATE, "Its stream can't go on; remove that file to begin anew")
        recent = _documents(self.path / _STATE, about["recent"], tensors, self.decomposition)
        self.watch.resume(tensors["all_scores"].numpy(), recent)
        known: dict[str, Any] = about
        return known


def _documents(
    path: Path, ids: Sequence[str], tensors: dict[str, Tensor], decomposition: Decomposition
) -> WatchedDocuments:
    try:
        return WatchedDocuments.from_tensors(ids, tensors, 2 * decomposition.n_latents)
    except ValueError as error:
        raise StoreError(f"{path} is not of this decomposition ({error}). Calibrate another monitor.") from error


def has_monitor(path: Path) -> bool:
    """True if a folder holds a monitor."""
    return (path / _REFERENCE).exists()


def _read(path: Path, advice: str) -> tuple[dict[str, Tensor], Any]:
    if damage := next(tensors_damages(path), None):
        raise StoreError(f"{damage}. {advice}.")
    found = take_up_tensors(path, advice)
    assert found is not None  # as has just been looked at
    return found
