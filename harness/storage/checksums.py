"""Checksums of files, so that keys depend on what a file holds and not on its path.

Invariant: a remembered checksum is used only while the file has the size and modification time that it had then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from harness.storage.cache import cache_folder

_SMALL_BYTES = 1 << 20
_SETTLED_SECONDS = 2.0


def file_digest(path: str | Path) -> str:
    """The sha256 of a file's contents in hex; for large files it is remembered under the cache folder."""
    path = Path(path).resolve()
    before = path.stat()
    if before.st_size <= _SMALL_BYTES:  # reading it costs no more than looking it up
        return _sha256(path)
    stamp = [before.st_size, before.st_mtime_ns]
    memory = cache_folder() / "checksums" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none or a damaged one: read the file
        remembered = json.loads(memory.read_text())
        if remembered["stamp"] == stamp:
            return str(remembered["sha256"])
    digest = _sha256(path)
    # A file written a moment ago may change again within one tick of its modification time.
    if time.time() - before.st_mtime > _SETTLED_SECONDS:
        _remember(memory, {"stamp": stamp, "sha256": digest})
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(memory: Path, entry: dict[str, object]) -> None:
    partial = memory.with_name(f"{memory.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a cache that can't be written costs time, not correctness
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(entry))
        partial.replace(memory)
