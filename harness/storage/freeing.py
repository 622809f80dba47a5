"""Freeing of disk space: folders are renamed first, each under its lock, and then deleted.

Killed at any moment, a process leaves whole artefacts, and folders named as discarded that the next one deletes. A lock
file goes last, while it is held: whoever waits for it finds its name gone and makes it anew (filelock asks the system
whether the file that it has locked still has a name).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from harness.storage.leftovers import DISCARDED, Leftover
from harness.storage.locks import file_lock
from harness.storage.store import discarded_name


@dataclass
class Freed:
    """The outcome of freeing."""

    freed: list[Leftover] = field(default_factory=list)
    in_use: list[Leftover] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    """Reasons, by the path that could not be removed."""
    doomed: list[Path] = field(default_factory=list)
    """Renamed folders that are still to be deleted."""

    def set_aside(self, found: Iterable[Leftover]) -> None:
        """Take leftovers out of everybody's sight; those that somebody uses stay."""
        for leftover in found:
            try:
                with _held(leftover.lock):
                    if leftover.path.exists():  # else another process was quicker
                        self._take(leftover)
            except filelock.Timeout:
                self.in_use.append(leftover)
            except OSError as error:
                self.failed[leftover.path] = error.strerror or str(error)

    def delete(self) -> None:
        """Delete what was set aside."""
        for path in self.doomed:
            try:
                shutil.rmtree(path)
            except FileNotFoundError:  # another process deletes it too
                continue
            except OSError as error:
                self.failed[path] = error.strerror or str(error)

    def _take(self, leftover: Leftover) -> None:
        path = leftover.path
        if path.is_dir():
            doomed = path if DISCARDED.fullmatch(path.name) else path.with_name(discarded_name(path.name.strip(".")))
            path.rename(doomed)
            self.doomed.append(doomed)
        elif path != leftover.lock:
            path.unlink()
        self.freed.append(leftover)


@contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    """Hold a lock for a moment, and remove its file; a Timeout says that another process holds it."""
    if lock is None:
        yield
        return
    with file_lock(lock).acquire(timeout=0):
        try:
            yield
        finally:
            with suppress(OSError):  # where open files can't be removed it stays, and does no harm
                lock.unlink()
