"""Manifests: lists of a folder's files with sizes and checksums, by which whatever is read of it is checked first."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from harness.files import follow_umask, write_json
from harness.planning.keys import content_key
from harness.storage.checksums import computed_digest

_CHECKSUM = "sha256"

FileState: TypeAlias = tuple[int, int, int, int]
"""Inode, size and times of a file."""
Seen: TypeAlias = dict[tuple[Path, str], FileState]
"""The states that files had when this process read all of them and found a checksum. Rot that comes later changes no
state, so that none is kept for another process."""


def list_files(folder: Path, digests: Mapping[str, str] = MappingProxyType({})) -> dict[str, dict[str, Any]]:
    """The size and checksum of every file in a folder, by its path in it; hidden ones are nobody's.

    All are made readable for whom the umask lets read.

    Args:
        folder: that holds them.
        digests: checksums of some, by their paths in it, that were computed when these were written.
    """
    files = {}
    for path in visible_files(folder):
        follow_umask(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": digests.get(name) or computed_digest(path)}
    return files


def visible_files(folder: Path) -> list[Path]:
    """The files in a folder and in those in it, in order, but for hidden ones."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where, name) for name in sorted(names) if not name.startswith(".")]
    return found


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, which is a mapping with `files`, and a checksum of its own."""
    write_json(path, {**manifest, _CHECKSUM: content_key(dict(manifest))})


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A manifest as it was written; None where there is none, or a damaged one."""
    if not path.is_file():  # nothing, or a folder or a link that leads nowhere
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        is_whole = manifest.pop(_CHECKSUM) == content_key(manifest)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if is_whole else None


def files_digest(path: str) -> str | None:
    """A digest of the files that a manifest lists; None where there is none that can be read.

    Its own checksum is left out, as there are many: one that is damaged has another digest, and is named by a run.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # as for records
            files = json.loads(file.read())["files"]
        listed = "".join(f"{name} {file['sha256']}\n" for name, file in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return hashlib.sha256(listed.encode()).hexdigest()[:32]


def damages(folder: Path, manifest: Mapping[str, Any], *, read: bool = True, seen: Seen | None = None) -> Iterator[str]:
    """The damages to files that a manifest lists, naming each.

    Args:
        folder: that holds the files.
        manifest: lists them.
        read: False to look at their sizes only.
        seen: what was read before and found whole; it is not read again while it is in the same state.
    """
    known: dict[Path, str] = {}
    for name, file in manifest["files"].items():
        size = size_of_file(folder / name)
        if size is None:
            yield f"{folder / name} is missing"
        elif size != file["bytes"]:
            yield f"{folder / name} is corrupt (it has another size)"
        else:
            known[folder / name] = file["sha256"]
    if read:
        yield from _damages_of_content(known, {} if seen is None else seen)


def _damages_of_content(known: Mapping[Path, str], seen: Seen) -> Iterator[str]:
    states = {path: _state(path) for path in known}  # from before: what is replaced meanwhile is read again
    unread = [path for path, digest in known.items() if seen.get((path, digest)) != states[path]]
    # A disk of today is faster than one core; computing a checksum lets other threads go on.
    with ThreadPoolExecutor(os.cpu_count()) as readers:
        for path, digest in zip(unread, readers.map(computed_digest, unread), strict=True):
            if digest != known[path]:
                yield f"{path} is corrupt (its checksum differs)"
            else:
                seen[path, digest] = states[path]


def _state(path: Path) -> FileState:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def size_of_file(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    return path.stat().st_size if path.is_file() else None
