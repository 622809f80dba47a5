"""Files written whole or not at all, with an error that names the file when a disk is full; and seals.

A sealed file of JSON ends with a checksum of all that comes before it, and of the name it was written for: what was
changed since, or belongs to another name, is told from what was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from harness.errors import StoreError, remedy

_UMASK = os.umask(0o077)
os.umask(_UMASK)  # only so can it be asked for; here, where no other thread makes files yet


def follow_umask(path: Path) -> None:
    """Give a file the permissions that the umask leaves: safetensors writes for its owner alone."""
    with suppress(PermissionError):  # another user's, who went before
        path.chmod(0o666 & ~_UMASK)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors raised while writing `path` into a StoreError that names it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(f"can't write {path}: {error}. {remedy(error)}".rstrip()) from error


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Turn those errors into a StoreError that names `path` which are of its disk; in making it other things fail."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not remedy(error):
            raise
        raise StoreError(f"can't make {path}: {error}. {remedy(error)}") from error


def temporary_name(path: Path) -> Path:
    """A name beside a path for what is to take its place: no other process's, and none that a crash has left."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name for a file that takes the place of `path` at the end, or is removed: readers see the old or the new."""
    temporary = temporary_name(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _make_way(path)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _make_way(path: Path) -> None:
    """Set aside a folder that stands where a file belongs: else each run would end there until somebody moved it."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)  # not as a temporary, which is removed some day: what is in it is somebody's


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old one or the whole new one, also after a crash."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, json.dumps(data, allow_nan=False).encode())


def read_json(path: Path) -> dict[str, Any]:
    """A mapping from a JSON file; empty where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_sealed(path: Path, data: Mapping[str, Any]) -> None:
    """Write a mapping that is not empty as a sealed file, atomically."""
    write_bytes(path, sealed(data, path.name))


def read_sealed(path: Path) -> dict[str, Any]:
    """A mapping from a sealed file; empty where there is none, or one that is not as it was written."""
    try:
        body = unsealed(path.read_bytes(), path.name)
    except OSError:
        body = None
    found: dict[str, Any] = json.loads(body + b"}") if body else {}
    return found


def sealed(data: Mapping[str, Any], name: str) -> bytes:
    """The content of a sealed file of this name, or a line of it: one line of JSON."""
    body = json.dumps(data, allow_nan=False).encode()[:-1]
    return body + _seal(body, name)


def unsealed(content: bytes, name: str) -> bytes | None:
    """The JSON of a sealed file of this name but for its last brace; None if it is not as it was written."""
    body = content[:-_SEAL_BYTES]
    return body if content[-_SEAL_BYTES:] == _seal(body, name) else None


def _seal(body: bytes, name: str) -> bytes:
    found = hashlib.sha256(f"{name}\n".encode())
    found.update(body)
    return f', "checksum": "{found.hexdigest()[:32]}"}}'.encode()


_SEAL_BYTES = len(_seal(b"", ""))


def set_aside(path: Path, folder: Path | None = None) -> Path:
    """Rename what is damaged, so that nobody reads it and nothing is lost; give its new path.

    Args:
        path: of a file, folder or link.
        folder: gets it; None for the one that it is in.
    """
    aside = (folder or path.parent) / f"{path.name}.damaged-{secrets.token_hex(4)}"
    path.rename(aside)
    return aside
