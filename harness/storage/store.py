"""The store of finished work: artefacts, which all suites share, in the cache, and records in a results folder.

Invariant: an artefact is a folder that appears whole, by a rename, with a manifest that lists its files and their
checksums. The leftovers of a crash have another name and are never read as an artefact.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.files import write_json
from harness.planning.cells import Cell
from harness.planning.keys import content_key
from harness.storage.cache import cache_folder
from harness.storage.checksums import computed_digest, file_digest, remember_digest
from harness.storage.locks import owned_lock
from harness.storage.records import Record, Stamp, read_record, stamp_of
from harness.storage.unstored import suffices

MANIFEST = "manifest.json"
_CHECKSUM = "sha256"
ARTEFACT_KINDS = {"capture": "activations", "fit": "fits", "latents": "latents", "explanation": "explanations"}


@dataclass(frozen=True)
class Store:
    """The cache and one results folder."""

    results: Path
    cache: Path
    _ends: dict[str, tuple[Stamp, Record]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The records read so far, without their table rows, which would take a hundred times the memory."""

    @classmethod
    def of(cls, results: Path) -> Store:
        return cls(results.absolute(), cache_folder())

    def record_path(self, key: str) -> Path:
        return Path(self._record_path(key))

    def _record_path(self, key: str) -> str:
        return f"{self.results}/cells/{key[:2]}/{key}.json"

    def record(self, key: str) -> Record | None:
        """The record of a cell, read from its file; None where there is none that can be read."""
        return self._read_record(key, stamp_of(self._record_path(key)))

    def end(self, key: str) -> Record | None:
        """The record of a cell without its table rows; its file is read again only after it was replaced."""
        stamp, known = stamp_of(self._record_path(key)), self._ends.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        record = self._read_record(key, stamp)
        return record and self._ends[key][1]

    def _read_record(self, key: str, stamp: Stamp | None) -> Record | None:
        record = None if stamp is None else read_record(self._record_path(key))
        if record is not None and stamp is not None:
            # The stamp is from before: of a record replaced meanwhile it is an old one, so it is read again.
            self._ends[key] = stamp, Record(**{**vars(record), "rows": []})
        return record

    def write_record(self, key: str, record: Record) -> None:
        """Write a cell's record; a failed second attempt at an incomplete cell keeps the rows of the first."""
        before = self.record(key)
        if before is not None and before.incomplete and record.status != "done":
            record = replace(before, incomplete=record.error or before.incomplete, log=record.log)
        write_json(self.record_path(key), vars(record))

    def artefact(self, kind: str, key: str) -> Path:
        return self.cache / ARTEFACT_KINDS[kind] / key

    def manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        """The manifest of an artefact; None where there is none, or where files are missing or cut short."""
        folder = self.artefact(kind, key)
        manifest = _read_manifest(folder)
        if manifest is None or any(_size(folder / name) != file["bytes"] for name, file in manifest["files"].items()):
            return None
        return manifest

    def whole(self, kind: str, key: str) -> dict[str, Any] | None:
        """The manifest of an artefact that is complete; None for one that lacks something a later run may still get."""
        manifest = self.manifest(kind, key)
        return None if manifest is None or manifest.get("incomplete") else manifest

    def made(self, cell: Cell) -> dict[str, Any] | None:
        """The manifest of a cell's artefact, if it is complete and holds what the cell asks for."""
        manifest = self.whole(cell.kind, cell.key)
        return manifest if manifest is not None and suffices(manifest, cell.work) else None

    def damage(self, kind: str, key: str) -> str | None:
        """The damage to an artefact that was once committed, naming the file; None if there is none."""
        folder = self.artefact(kind, key)
        if not folder.exists():
            return None
        manifest = _read_manifest(folder)
        if manifest is None:
            return f"{folder / MANIFEST} is missing or corrupt"
        for name, file in manifest["files"].items():
            if _size(folder / name) is None:
                return f"{folder / name} is missing"
            if _size(folder / name) != file["bytes"] or file_digest(folder / name) != file["sha256"]:
                return f"{folder / name} is corrupt (its checksum differs)"
        return None

    def discard(self, kind: str, key: str) -> None:
        """Remove an artefact; it is renamed first, so that nobody reads half of it."""
        folder = self.artefact(kind, key)
        doomed = folder.with_name(discarded_name(folder.name))
        folder.rename(doomed)
        shutil.rmtree(doomed)

    def work_folder(self, kind: str, key: str) -> Path:
        """The folder where an artefact is being made; a later run may continue what an interrupted one left there."""
        return self.artefact(kind, key).with_name(f".{key}.partial")

    def checkpoint(self, kind: str, key: str) -> Path:
        """The checkpoint of an artefact that takes long to make."""
        return self.artefact(kind, key).with_name(f".{key}.checkpoint")

    @contextmanager
    def lock(self, kind: str, key: str, say: Callable[[str], None] = print) -> Iterator[None]:
        """Let only one process make an artefact; the others wait and find it made.

        Args:
            kind: of the artefact.
            key: its key.
            say: told for whom this process waits, if it has to wait for long.
        """
        path = self.artefact(kind, key).with_name(f".{key}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with owned_lock(path, say):
            yield

    def commit(self, kind: str, key: str, manifest: Mapping[str, Any]) -> None:
        """Turn the work folder into the artefact."""
        work, folder = self.work_folder(kind, key), self.artefact(kind, key)
        files = {}
        for path in sorted(work.iterdir()):
            if path.name.startswith("."):  # a half-written file of an interrupted run
                path.unlink()
                continue
            _fsync(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": computed_digest(path)}
        whole = {**manifest, "files": files}
        write_json(work / MANIFEST, {**whole, _CHECKSUM: content_key(whole)})
        if folder.exists():  # an incomplete one, or a damaged one that another run is replacing at the same time
            self.discard(kind, key)
        work.rename(folder)
        _fsync(folder.parent)
        for name, file in files.items():
            remember_digest(folder / name, str(file["sha256"]))


def discarded_name(name: str) -> str:
    """The name of an artefact that is being removed; none that a process which was killed while removing has left."""
    return f".{name}.discarded-{uuid.uuid4().hex[:8]}"


def require(store: Store, kind: str, key: str) -> tuple[Path, dict[str, Any]]:
    """The folder and manifest of an artefact that must be there."""
    manifest = store.manifest(kind, key)
    if manifest is None:
        raise StoreError(f"{store.artefact(kind, key)} is missing or damaged. Run the suite again: it is made anew.")
    return store.artefact(kind, key), manifest


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        is_whole = manifest.pop(_CHECKSUM) == content_key(manifest)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if is_whole else None


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


RESOLVED = "suite.yaml"


def results_folder(name: str) -> Path:
    return Path.cwd() / "results" / name
