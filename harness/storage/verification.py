"""Verification: everything that lies in the cache and in results folders is read and compared with its checksums."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.storage.manifests import visible_files
from harness.storage.sealed_files import sealed_damage, sealed_in
from harness.storage.seals import SEAL, damages_of_folder
from harness.storage.store import ARTEFACT_KINDS, Store
from harness.storage.tensor_files import tensors_damages

_OF_ARTEFACT = "`harness run` of a suite that needs it makes it again"
_OF_MODEL = "it is made again when it is used next"
_OF_CHECKPOINT = "it is removed when the fit goes on, which then begins anew"
_OF_SHARD = "it is set aside when the capture goes on, and made again"
_OF_RECORD = "`harness run` of this suite does its cell again"


@dataclass(frozen=True)
class Damage:
    """A thing that is not as it was written."""

    kind: str
    path: Path
    """The file, or the folder of an artefact or model that it belongs to."""
    text: str
    """The damage, naming the file."""
    then: str
    """The next step."""


@dataclass
class Verified:
    """The outcome: what was read, and what of it is damaged."""

    found: list[Damage] = field(default_factory=list)
    n_read: int = 0
    """Artefacts, models, checkpoints, shards of broken-off captures and records."""
    unsealed: list[Path] = field(default_factory=list)
    """Folders of models that an earlier version made, without checksums."""

    def add(self, kind: str, path: Path, damages: Iterable[str], then: str) -> None:
        """Count a thing that was read, and keep its damages."""
        self.n_read += 1
        try:
            self.found += [Damage(kind, path, text, then) for text in damages]
        except OSError as error:
            text = f"{error.filename or path} can't be read ({error.strerror})"
            self.found.append(Damage(kind, path, text, "look at its permissions, and at the disk"))

    def artefacts(self, store: Store, keys: Collection[str] | None = None) -> None:
        """Read the artefacts of a cache, or those with some keys."""
        for kind, path in _of_keys(store, keys):
            if path.is_dir() and not path.name.startswith("."):
                self.add(kind, path, store.damages(kind, path.name), _OF_ARTEFACT)

    def checkpoints(self, store: Store, keys: Collection[str] | None = None) -> None:
        """Read what fits that were broken off, all or those with some keys, would go on from."""
        for _, path in _of_keys(store, keys):
            if path.suffix == ".checkpoint":
                self.add("checkpoint", path, tensors_damages(path), _OF_CHECKPOINT)

    def shards(self, store: Store, keys: Collection[str] | None = None) -> None:
        """Read what captures that were broken off, all or those with some keys, would go on from."""
        for _, folder in _of_keys(store, keys):
            for path in sealed_in(folder) if folder.suffix == ".partial" else []:
                damage = sealed_damage(path)
                self.add("shard", path, [damage] if damage else [], _OF_SHARD)

    def models(self, cache: Path) -> None:
        """Read the models that were made in a cache, and how far trainings have come."""
        models = cache / "models"
        for folder in _model_folders(models):
            if not (folder / SEAL).exists():
                self.unsealed.append(folder)
                continue
            name = folder.relative_to(models).as_posix()
            self.add("model", folder, damages_of_folder(folder, name), _OF_MODEL)
        for path in sorted(models.glob("*/state.safetensors")):
            self.add("checkpoint", path, tensors_damages(path), "it is removed, and the training begins anew")

    def records(self, store: Store) -> None:
        """Read the records of a results folder, and the verdicts beside them."""
        for path in sorted(store.results.glob("cells/??/*.json")):
            is_whole = store.end(path.stem) is not None
            damage = store.damaged.get(path.stem, f"{path} can't be read")
            self.add("record", path, [] if is_whole else [damage], _OF_RECORD)
            if is_whole and (of_verdicts := store.verdicts_damage(path.stem)):
                self.add("verdicts", store.verdicts_path(path.stem), [of_verdicts], _OF_RECORD)


def keys_of(store: Store) -> set[str]:
    """The keys of all cells that have a record in a results folder."""
    return {path.stem for path in store.results.glob("cells/??/*.json")}


def _of_keys(store: Store, keys: Collection[str] | None) -> Iterator[tuple[str, Path]]:
    """Files and folders beside artefacts, each with the kind of these: all, or those with some keys in their names."""
    for kind, name in ARTEFACT_KINDS.items():
        folder = store.cache / name
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if keys is None or path.name.strip(".").partition(".")[0] in keys:
                yield kind, path


def _model_folders(models: Path) -> Iterator[Path]:
    """The folders of models: each holds files, or folders of a family that was trained."""
    for folder in sorted(models.iterdir()) if models.is_dir() else []:
        if folder.is_dir() and not folder.name.startswith("."):
            steps = [path for path in sorted(folder.glob("step-*")) if path.is_dir()]
            yield from steps or ([folder] if visible_files(folder) else [])
