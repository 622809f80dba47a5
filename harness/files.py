"""Files written whole or not at all, with an error that names the file when a disk is full."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from harness.errors import StoreError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors raised while writing `path` into a StoreError that names it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"can't write {path}: {error}. Make room there, or use another disk: HARNESS_CACHE and the working folder "
            "say which."
        ) from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the whole new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w") as file:
                json.dump(data, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A mapping from a JSON file; empty where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
