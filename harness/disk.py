"""What goes wrong when a file is written, in words: mostly, the disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from harness.errors import StoreError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of writing `path` into a StoreError that names it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"can't write {path}: {error}. Make room there, or use another disk: HARNESS_CACHE and the working folder "
            "say which."
        ) from error
