"""Model folders that are made once and then lie in the cache: converted, drawn or cut up, they can be made again."""

from __future__ import annotations

import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import filelock

from harness.errors import StoreError
from harness.files import making
from harness.storage.cache import cache_folder
from harness.storage.locks import owned_lock
from harness.storage.seals import SEAL, folder_damage, seal_folder, set_aside

_MARK = ".made_once"
_PARTIAL = re.compile(r"\.(.+)-\w{8}")
_SECONDS_UNTIL_OLD = 24 * 3600.0


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `models/<name>` of the cache; `make` fills it first if it is not there. It appears whole.

    It holds nothing that `make` would not write again: `harness gc --models` removes it, and where one of its files has
    changed, a warning says so and it is made again.
    """
    folder = cache_folder() / "models" / name
    damage = folder_damage(folder, name)
    if damage is None:
        return folder
    if folder.is_dir() and not os.access(folder.parent, os.W_OK):
        return _as_it_is(folder, damage)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with owned_lock(_lock(folder), _warn):
        damage = folder_damage(folder, name)  # another process may have made it meanwhile
        if damage is not None:
            _make(folder, name, make, damage)
    return folder


def is_made_once(folder: Path) -> bool:
    """True for a folder that was made here, and is whole: not for one that was trained, or put there by somebody."""
    return not folder.name.startswith(".") and (folder / _MARK).is_file()


def lock_of(path: Path) -> Path | None:
    """The lock of a folder that was made here, or is being made; None for any other."""
    if is_made_once(path):
        return _lock(path)
    name = _PARTIAL.fullmatch(path.name)
    lock = _lock(path.with_name(name[1])) if name else None
    return lock if lock and path.is_dir() and lock.exists() else None


def _as_it_is(folder: Path, damage: str) -> Path:
    """A folder that can't be made again here, if an earlier version, which sealed nothing, has made it."""
    if (folder / SEAL).exists():
        raise StoreError(f"{damage}. It can't be made again, for {folder.parent} can't be written: whose it is can.")
    _warn(f"{damage}. {folder.parent} can't be written, so it is used as it is.")
    return folder


def _make(folder: Path, name: str, make: Callable[[Path], None], damage: str) -> None:
    partial = folder.with_name(f".{name}-{uuid.uuid4().hex[:8]}")
    partial.mkdir()  # as the umask says
    _sweep(partial, _lock(folder))
    try:
        with making(folder):
            make(partial)
            (partial / _MARK).touch()
            seal_folder(partial, name)
        if folder.exists():
            aside = set_aside(folder, keep=not is_made_once(folder))
            kept = f"; what was there is kept as {aside}" if aside else ""
            _warn(f"{damage}: the model was made again{kept}.")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _sweep(partial: Path, held: Path) -> None:
    """Remove what killed processes have left: of this folder's making, whose lock is held, and what is old."""
    now = partial.stat().st_mtime  # by the clock of the disk, as that of the others is
    for path in partial.parent.iterdir():
        lock = lock_of(path)
        if lock is None or is_made_once(path) or path == partial:
            continue
        if lock == held:
            shutil.rmtree(path, ignore_errors=True)
        elif now - path.stat().st_mtime > _SECONDS_UNTIL_OLD:
            try:
                with filelock.FileLock(lock, timeout=0):
                    shutil.rmtree(path, ignore_errors=True)
            except (filelock.Timeout, OSError):  # it is being made, or another user's
                continue


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
