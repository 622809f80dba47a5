"""Model folders that are made once and then lie in the cache: converted, drawn or cut up, they can be made again."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock

from harness.storage.cache import cache_folder

_MARK = ".made_once"
_PARTIAL = re.compile(r"\.(.+)-\w{8}")  # as tempfile names it


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `models/<name>` of the cache; `make` fills it first if it is not there. It appears whole.

    It holds nothing that `make` would not write again: `harness gc --models` removes it.
    """
    folder = cache_folder() / "models" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(_lock(folder)):
        if not folder.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
            try:
                make(partial)
                (partial / _MARK).touch()
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return folder


def is_made_once(folder: Path) -> bool:
    """True for a folder that was made here, and not trained or put there by somebody."""
    return (folder / _MARK).is_file()


def lock_of(path: Path) -> Path | None:
    """The lock of a folder that was made here, or is being made; None for any other."""
    if is_made_once(path):
        return _lock(path)
    name = _PARTIAL.fullmatch(path.name)
    lock = _lock(path.with_name(name[1])) if name else None
    return lock if lock and path.is_dir() and lock.exists() else None


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
