"""Files that are made from what is stored, and what they were made from: they are made again only if either changed.

What they are made from counts as changed by its stamps: stored files are replaced by renames alone, so that each has
another inode then. The made ones are read, for what rots keeps its stamp.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.files import read_sealed, write_sealed
from harness.planning.cells import Cell
from harness.planning.keys import content_key
from harness.planning.plan import Plan
from harness.storage.checksums import computed_digest
from harness.storage.records import stamp_of
from harness.storage.store import Store

_FILE = ".made.json"
SHOWN_KINDS = ("latents", "explanation")
"""Kinds of artefacts that results show, and not only their records."""
_PACKAGES = ("jinja2", "matplotlib", "numpy", "pandas", "pyarrow")


@dataclass(frozen=True)
class Made:
    """The memory of what the files in a results folder were made from."""

    folder: Path

    def is_current(self, name: str, source: str) -> bool:
        """True if the files under this name were made from this source, and are as they were then."""
        return self.is_untouched(name) and bool(self._remembered()[name]["source"] == source)

    def is_untouched(self, name: str) -> bool:
        """True if the files under this name are as they were made, from whatever source."""
        made = self._remembered().get(name)
        if made is None:
            return False
        paths = [self.folder / file for file in made["files"]]
        # Rot changes no stamp.
        return bool(made["stamps"] == listing(paths) and made.get("contents") == _contents(paths))

    def remember(self, name: str, source: str, files: Sequence[str]) -> None:
        """Remember files and folders, named as in the results folder, as made from a source."""
        paths = [self.folder / file for file in files]
        made = {"source": source, "files": list(files), "stamps": listing(paths), "contents": _contents(paths)}
        write_sealed(self.folder / _FILE, self._remembered() | {name: made})

    def _remembered(self) -> dict[str, Any]:
        return read_sealed(self.folder / _FILE)


def source_of(plan: Plan, store: Store) -> str:
    """The name of all that tables, boards and the report are made from: equal names give equal files."""
    found = hashlib.sha256()
    for cell in plan.cells.values():
        found.update(f"{cell.skipped} {left_by(cell, store)}\n".encode())
    suite = plan.suite
    about = {
        "config": asdict(suite.config),
        "labels": sorted(map(str, suite.labels.items())),
        "metrics": repr(suite.metrics),
        "floors": [scorer.name for scorer in suite.scorers if "floor" in scorer.provides],
        "code": code_digest(),
        "cells": found.hexdigest(),
    }
    return content_key(about)


def left_by(cell: Cell, store: Store) -> list[Any]:
    """A cell's key and label, and the stamps of what it has left that results show."""
    record = store.record_path(cell.key)
    stamps: list[Any] = [cell.key, cell.label, stamp_of(str(record))]
    if cell.kind == "scoring":
        stamps.append(stamp_of(str(record.with_suffix(".parquet"))))
    if cell.kind in SHOWN_KINDS:
        stamps.append(listing([store.artefact(cell.kind, cell.key)]))
    return stamps


@cache
def code_digest() -> str:
    """A digest of the engine's own files, and of the packages that write and draw.

    A plugin takes part by what it declares.
    """
    found = hashlib.sha256(str([metadata.version(name) for name in _PACKAGES]).encode())
    root = Path(__file__).parents[1]
    for folder, folders, names in os.walk(root):  # does not follow the links to plugins and configs
        folders.sort()
        for name in sorted(names):
            if name.endswith((".py", ".html", ".css", ".js")):
                found.update(Path(folder, name).read_bytes())
    return found.hexdigest()


def listing(paths: Sequence[Path]) -> str:
    """A digest of the stamps of files, and of all files in folders among them; files that are not there count too."""
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path} {stamp_of(str(path))}\n".encode())
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = f"{folder}/{name}"
                found.update(f"{file} {stamp_of(file)}\n".encode())
    return found.hexdigest()


def _contents(paths: Sequence[Path]) -> str:
    """A digest of what files hold, and all files in folders among them."""
    inside = [inner for path in paths if path.is_dir() for inner in sorted(path.rglob("*"))]
    digests = [computed_digest(path) for path in (*paths, *inside) if path.is_file()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
