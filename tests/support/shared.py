"""Folders that are made once for all test processes of a call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Make a folder and fill it, if no other process has; those that come meanwhile wait."""
    is_made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not is_made.exists():
            folder.mkdir()
            make(folder)
            is_made.touch()
    return folder
