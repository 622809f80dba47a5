"""Checksums of files, so that keys depend on what a file holds and not on its path.

Those of a user's large files are remembered, and used while a file has the size and times that it had then: rot on a
disk changes none of them. So no artefact is checked by a remembered one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path

from harness.files import temporary_name
from harness.storage.cache import cache_folder

_FOLDER = "checksums"
_SMALL_BYTES = 1 << 20
_SETTLED_SECONDS = 2.0
_NAME = re.compile(r"[0-9a-f]{32}\.json(\.\d+)?")


def file_digest(path: str | Path) -> str:
    """The sha256 of a file's contents in hex; for large files it is remembered under the cache folder."""
    path = Path(path).resolve()
    before = path.stat()
    if before.st_size <= _SMALL_BYTES:  # reading it costs no more than looking it up
        return computed_digest(path)
    stamp, memory = _stamp(before), _memory(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none or a damaged one: read the file
        remembered = json.loads(memory.read_text())
        if remembered["stamp"] == stamp:
            return str(remembered["sha256"])
    digest = computed_digest(path)
    # A file written a moment ago may change again within one tick of its modification time.
    if time.time() - before.st_mtime > _SETTLED_SECONDS:
        _remember(memory, {"path": str(path), "stamp": stamp, "sha256": digest})
    return digest


def stale(cache: Path) -> list[Path]:
    """Remembered checksums of no use: their file is gone or has changed, or they don't say which it was."""
    named = sorted(path for path in (cache / _FOLDER).glob("*.json*") if _NAME.fullmatch(path.name))
    return [path for path in named if _is_stale(path)]


def _is_stale(memory: Path) -> bool:
    try:
        remembered = json.loads(memory.read_text())
        return memory.suffix != ".json" or _stamp(Path(remembered["path"]).stat()) != remembered["stamp"]
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _stamp(found: os.stat_result) -> list[int]:
    # A program that puts the modification time back can't put back that of the last change of any kind.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _memory(path: Path) -> Path:
    return cache_folder() / _FOLDER / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def computed_digest(path: Path) -> str:
    """The sha256 of a file's contents in hex, from reading all of it; nothing is remembered."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(memory: Path, entry: dict[str, object]) -> None:
    partial = temporary_name(memory)
    with contextlib.suppress(OSError):  # a cache that can't be written costs time, not correctness
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(entry))
        partial.replace(memory)
