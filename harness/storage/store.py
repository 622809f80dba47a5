"""The store of finished work: artefacts, which all suites share, in the cache, and records in a results folder.

Invariant: an artefact is a folder that appears whole, by a rename, with a manifest that lists its files and their
checksums. The leftovers of a crash have another name and are never read as an artefact.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.errors import StoreError
from harness.files import set_aside
from harness.planning.cells import Cell
from harness.storage.cache import cache_folder
from harness.storage.checksums import computed_digest
from harness.storage.locks import owned_lock
from harness.storage.manifests import Seen, damages, files_digest, list_files, read_manifest, write_manifest
from harness.storage.records import Damaged, Record, Stamp, read_record, stamp_of, write_record
from harness.storage.unstored import suffices

MANIFEST = "manifest.json"
ARTEFACT_KINDS = {
    **{"capture": "activations", "fit": "fits", "latents": "latents", "explanation": "explanations"},
    **{"contrast": "contrasts", "circuit": "circuits"},
}
# A fit made anew may have other latents: what was made from the old one is of no use beside what is made from the new.
# Rows of a capture made anew, as on another device, differ by rounding only: its key names the model and the texts.
_FOLLOWED = ("fit", "latents", "explanation")


class DamagedArtefact(StoreError):
    """An artefact that must be there is gone, or not as it was written. A run makes it again."""

    def __init__(self, kind: str, key: str, damage: str, again: str = "Run the suite again, with --verify") -> None:
        self.kind, self.key, self.damage = kind, key, damage
        super().__init__(f"{damage}. {again}: it is made anew.")


@dataclass(frozen=True)
class Store:
    """The cache and one results folder."""

    results: Path
    cache: Path
    _ends: dict[str, tuple[Stamp, Record]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The records read so far, without their table rows, which would take a hundred times the memory."""
    _unsealed: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Keys of records read so far that have no checksum yet."""
    _digests: dict[str, tuple[Stamp | None, str | None]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Digests of artefacts, by their place in the cache."""
    damaged: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Records found so far that can't be used, by the keys of their cells: which file, and why."""
    _seen: Seen = field(default_factory=dict, init=False, repr=False, compare=False)
    """Files of artefacts that were read and found as they were written."""

    @classmethod
    def of(cls, results: Path) -> Store:
        return cls(results.absolute(), cache_folder())

    def record_path(self, key: str) -> Path:
        return Path(self._record_path(key))

    def verdicts_path(self, key: str) -> Path:
        """The verdicts of a scoring cell, beside its record."""
        return self.record_path(key).with_suffix(".parquet")

    def _record_path(self, key: str) -> str:
        return f"{self.results}/cells/{key[:2]}/{key}.json"

    def record(self, key: str) -> Record | None:
        """The record of a cell, read from its file; None where there is none that can be used."""
        return self._usable(key, self._read_record(key, stamp_of(self._record_path(key)), with_rows=True))

    def end(self, key: str) -> Record | None:
        """The record of a cell without its table rows; its file is read again only after it was replaced."""
        stamp, known = stamp_of(self._record_path(key)), self._ends.get(key)
        if known is not None and known[0] == stamp:
            return self._usable(key, known[1])
        return self._usable(key, self._read_record(key, stamp, with_rows=False))

    def _read_record(self, key: str, stamp: Stamp | None, *, with_rows: bool) -> Record | None:
        self.damaged.pop(key, None)
        try:
            found = None if stamp is None else read_record(self._record_path(key), with_rows=with_rows)
        except Damaged as damaged:
            self.damaged[key] = f"{self._record_path(key)} is damaged: {damaged}"
            return None
        if found is None or stamp is None:
            return None
        record, is_sealed = found
        # The stamp is from before: of a record replaced meanwhile it is an old one, so it is read again.
        self._ends[key] = stamp, Record(**{**vars(record), "rows": []}) if with_rows else record
        self._unsealed.discard(key) if is_sealed else self._unsealed.add(key)
        return record

    def _usable(self, key: str, record: Record | None) -> Record | None:
        """A record, unless something that it was made from has been made anew since, with other bytes."""
        for name, digest in record.made_from.items() if record else ():
            if self._digest(name) not in (digest, None):
                self.damaged[key] = f"{self._record_path(key)} was made from {name}, which is another one by now"
                return None
        return record

    def write_record(self, key: str, record: Record) -> None:
        """Write a cell's record; a failed second attempt at an incomplete cell keeps the rows of the first."""
        before = self.record(key)
        if before is not None and before.incomplete and record.status != "done":
            record = replace(before, incomplete=record.error or before.incomplete, log=record.log)
        write_record(self.record_path(key), record)

    def is_of_earlier_version(self, key: str) -> bool:
        """True if a cell has a record without a checksum, written by an earlier version."""
        return self.end(key) is not None and key in self._unsealed

    def verdicts_digest(self, key: str) -> str | None:
        """The checksum of the verdicts beside a record; None where there are none."""
        path = self.verdicts_path(key)
        return computed_digest(path) if path.is_file() else None

    def verdicts_damage(self, key: str) -> str | None:
        """The damage to the verdicts of a cell, by the checksum in its record; None if there is none of either."""
        record, path = self.end(key), self.verdicts_path(key)
        if record is None or key in self._unsealed or self.verdicts_digest(key) == record.verdicts:
            return None
        return f"{path} is damaged: its checksum differs" if path.exists() else f"{path} is missing"

    def set_record_aside(self, key: str) -> None:
        """Rename a record that can't be used, and the verdicts beside it."""
        for path in (self.record_path(key), self.verdicts_path(key)):
            if path.exists():
                set_aside(path)

    def made_from(self, upstream: Iterable[str]) -> dict[str, str]:
        """Digests of the artefacts that cells before a cell have left, and of those that they were made from."""
        found: dict[str, str] = {}
        for key in upstream:
            found |= {name: digest for name in _places(key) if (digest := self._digest(name)) is not None}
            record = self.end(key)
            found = {**(record.made_from if record else {}), **found}
        return found

    def _digest(self, name: str) -> str | None:
        """A digest of all files of an artefact, by its place in the cache; None where there is none."""
        path = f"{self.cache}/{name}/{MANIFEST}"
        stamp, known = stamp_of(path), self._digests.get(name)
        if known is None or known[0] != stamp:
            known = self._digests[name] = stamp, files_digest(path)
        return known[1]

    def artefact(self, kind: str, key: str) -> Path:
        return self.cache / ARTEFACT_KINDS[kind] / key

    def manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        """The manifest of an artefact; None where there is none, or where files are missing or cut short."""
        manifest = self._read_manifest(kind, key)
        if manifest is None or any(damages(self.artefact(kind, key), manifest, read=False)):
            return None
        before = manifest.get("made_from", {}).items()
        return manifest if all(self._digest(name) in (digest, None) for name, digest in before) else None

    def _read_manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        manifest = read_manifest(self.artefact(kind, key) / MANIFEST)
        # Those of earlier versions don't say whose they are.
        return manifest if manifest is not None and manifest.get("key", key) == key else None

    def whole(self, kind: str, key: str) -> dict[str, Any] | None:
        """The manifest of an artefact that is complete; None for one that lacks something a later run may still get."""
        manifest = self.manifest(kind, key)
        return None if manifest is None or manifest.get("incomplete") else manifest

    def made(self, cell: Cell) -> dict[str, Any] | None:
        """The manifest of a cell's artefact, if it is complete and holds what the cell asks for."""
        manifest = self.whole(cell.kind, cell.key)
        return manifest if manifest is not None and suffices(manifest, cell.work) else None

    def damage(self, kind: str, key: str, *, read: bool = True) -> str | None:
        """The damage to an artefact that was once committed, naming a file; None if there is none."""
        return next(self.damages(kind, key, read=read), None)

    def damages(self, kind: str, key: str, *, read: bool = True) -> Iterator[str]:
        """All damages to an artefact that was once committed, naming the files.

        Args:
            kind: of the artefact.
            key: its key.
            read: False to look at sizes only: rot on a disk changes neither them nor times.
        """
        folder = self.artefact(kind, key)
        manifest = self._read_manifest(kind, key)
        if manifest is not None:
            yield from damages(folder, manifest, read=read)
        elif folder.exists():
            yield f"{folder / MANIFEST} is missing or corrupt, or of another artefact"

    def damage_before_use(self, kind: str, key: str) -> str | None:
        """The damage to an artefact of which each file is read once in this process, before it is first used."""
        manifest = self._read_manifest(kind, key)
        if manifest is None:
            return self.damage(kind, key)
        return next(damages(self.artefact(kind, key), manifest, seen=self._seen), None)

    def discard(self, kind: str, key: str) -> None:
        """Remove an artefact; it is renamed first, so that nobody reads half of it."""
        folder = self.artefact(kind, key)
        doomed = folder.with_name(discarded_name(folder.name))
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)  # whoever sweeps may be quicker

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

    def commit(
        self, kind: str, key: str, manifest: Mapping[str, Any], digests: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Turn the work folder into the artefact.

        Args:
            kind: of the artefact.
            key: its key.
            manifest: all that its manifest says but of its files.
            digests: checksums of files, by name, that were computed when these were written.
        """
        work, folder = self.work_folder(kind, key), self.artefact(kind, key)
        for path in sorted(work.iterdir()):
            if path.name == MANIFEST:  # of a run that was interrupted, maybe right here
                path.unlink()
            elif not path.name.startswith("."):
                _fsync(path)
        write_manifest(work / MANIFEST, {**manifest, "key": key, "files": list_files(work, digests)})
        for path in work.glob(".*"):  # what only who goes on needs; last, since that may still be asked for
            if path.is_dir() and not path.is_symlink():  # somebody has put it there
                set_aside(path, work.parent)
            else:
                path.unlink()
        if folder.exists():  # an incomplete one, or a damaged one that another run is replacing at the same time
            self.discard(kind, key)
        work.rename(folder)
        _fsync(folder.parent)


def discarded_name(name: str) -> str:
    """The name of an artefact that is being removed; none that a process which was killed while removing has left."""
    return f".{name}.discarded-{uuid.uuid4().hex[:8]}"


def require(store: Store, kind: str, key: str) -> tuple[Path, dict[str, Any]]:
    """The folder and manifest of an artefact that must be there, and as it was written."""
    manifest = _manifest_of(store, kind, key)
    if damage := store.damage_before_use(kind, key):
        raise DamagedArtefact(kind, key, damage)
    return store.artefact(kind, key), manifest


def read_checked(store: Store, kind: str, key: str, name: str) -> bytes:
    """The content of a file of an artefact that must be there, and as it was written."""
    path, manifest = store.artefact(kind, key) / name, _manifest_of(store, kind, key)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["files"][name]["sha256"]:
        raise DamagedArtefact(kind, key, f"{path} is corrupt (its checksum differs)")
    return content


def _manifest_of(store: Store, kind: str, key: str) -> dict[str, Any]:
    manifest = store.manifest(kind, key)
    if manifest is None:
        damage = f"{store.artefact(kind, key)} is missing or damaged"
        raise DamagedArtefact(kind, key, damage, "Run the suite again")
    return manifest


def _places(key: str) -> list[str]:
    """The places in the cache where a cell of a kind that is followed may have left its artefact."""
    return [f"{ARTEFACT_KINDS[kind]}/{key}" for kind in _FOLLOWED]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


RESOLVED = "suite.yaml"


def results_folder(name: str) -> Path:
    return Path.cwd() / "results" / name
