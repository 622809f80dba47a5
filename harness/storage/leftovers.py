"""Leftovers of the cache: what no plan given needs, and what crashes and earlier versions left behind.

Names decide: a file or folder that is not named as the store names its own is a stranger's, and never listed. So is a
link, which somebody has put there. Answers of judges and timings are kept in any case.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage import checksums
from harness.storage.dependents import dependents
from harness.storage.made_once import is_made_once, lock_of
from harness.storage.plans_at_work import ended, keys_at_work
from harness.storage.states import states
from harness.storage.store import ARTEFACT_KINDS, Store
from harness.storage.temporaries import temporaries

_KEY = re.compile(r"[0-9a-f]{32}")
_OF_KEY = re.compile(r"\.([0-9a-f]{32})\.(partial|checkpoint|lock|discarded)(?:[.-]\w+)*")
_OWNER = ".lock.owner"
DISCARDED = re.compile(r"\..+\.discarded-\w+")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can be removed, and the reason."""

    kind: str
    path: Path
    why: str
    n_bytes: int
    lock: Path | None = None
    """The lock that a process holds which uses it; where it is the path itself, nothing but the lock is left."""


@dataclass
class Kept:
    """The artefacts that are kept, by their keys."""

    cells: dict[str, Cell] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    """Keys of cells that are to do, of all that these rest on, and of all that suites in other folders rest on."""

    def add(self, plan: Plan, store: Store) -> None:
        """Keep what a plan needs, whose records the store has."""
        self.cells |= {key: cell for key, cell in plan.cells.items() if cell.kind in ARTEFACT_KINDS}
        for key, state in states(plan, store).items():
            if state.is_todo:
                self.needed |= {key, *plan.cells[key].upstream}


def leftovers(cache: Path, kept: Kept, *, captures: bool = False, models: bool = False) -> Iterator[Leftover]:
    """Everything in a cache that can be removed; nothing is changed, and no file made.

    Args:
        cache: the folder that suites share.
        kept: what their plans need.
        captures: with the captures that only done cells need.
        models: with models that are made again when they are used.
    """
    busy = keys_at_work(cache)
    for kind, name in ARTEFACT_KINDS.items():
        yield from _of_kind(kind, cache / name, kept, busy, captures=captures)
    for path in temporaries(cache, depth=1):
        if not _OF_KEY.fullmatch(path.name):  # else it is listed with its kind
            yield Leftover("temporary", path, "what made it was killed", size_of(path))
    for path in checksums.stale(cache):
        yield Leftover("checksum", path, "its file is gone, or has changed", size_of(path))
    for dependent in dependents(cache):
        if dependent.is_gone:
            yield Leftover("needs", dependent.entry, f"{dependent.results} is gone", size_of(dependent.entry))
    for path in ended(cache):
        lock = path.with_suffix(".lock")
        yield Leftover("plan at work", path, "its run was killed", size_of(path), lock)
    if not busy:  # a run that is at work may be about to load any of them
        yield from _models(cache / "models", is_asked=models)


def _of_kind(kind: str, folder: Path, kept: Kept, busy: set[str], *, captures: bool) -> Iterator[Leftover]:
    for path in _own(folder):
        of_key = _OF_KEY.fullmatch(path.name)
        key = of_key[1] if of_key else path.name
        if key in busy or not (of_key or _KEY.fullmatch(path.name)):
            continue
        lock = folder / f".{key}.lock"
        why = None if key in kept.cells or key in kept.needed else "no suite given needs it"
        if why is None and captures and kind == "capture" and key not in kept.needed:
            why = "only cells that are done need it"
        if of_key is None:
            if why:
                yield Leftover(kind, path, why, size_of(path), lock)
            continue
        what = "discarded" if DISCARDED.fullmatch(path.name) else of_key[2]
        if what == "discarded":
            why = "its removal was broken off"
        elif what == "lock":
            why = "nobody holds it"
        elif (folder / key).exists():
            why = "what it was to become is there"
        if why:
            yield Leftover(what, path, why, size_of(path), lock)


def _models(folder: Path, *, is_asked: bool) -> Iterator[Leftover]:
    for path in _own(folder):
        lock = lock_of(path)
        if path.name.endswith(_OWNER):
            held = path.with_name(path.name.removesuffix(".owner"))
            yield Leftover("lock", path, "nobody holds it", size_of(path), held)
        elif DISCARDED.fullmatch(path.name):
            yield Leftover("discarded", path, "its removal was broken off", size_of(path))
        elif lock and is_made_once(path) and is_asked:
            yield Leftover("model", path, "it is made again when it is used", size_of(path), lock)
        elif lock and not is_made_once(path):
            yield Leftover("partial", path, "its making was broken off", size_of(path), lock)


def _own(folder: Path) -> list[Path]:
    """The files and folders in a folder, in order; no links."""
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what goes meanwhile counts as nothing."""
    if not path.is_dir():
        return _bytes(path)
    return sum(_bytes(Path(where, name)) for where, _, names in os.walk(path) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
