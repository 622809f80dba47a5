"""Locks whose owner is known: who waits says for whom, and an owner that was stopped holds nobody up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import filelock

from harness.files import write_json
from harness.storage.processes import Process

_SECONDS_UNTIL_SAID = 30.0
_LOOKS_UNTIL_ENDED = 2
"""Looks in a row, each after so many seconds, at which an owner is found stopped before it is ended."""


@contextmanager
def owned_lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock at a path; a file beside it, `NAME.owner`, says who does."""
    lock, owner_path = filelock.FileLock(path), path.with_name(f"{path.name}.owner")
    _acquire(lock, owner_path, say)
    try:
        with suppress(OSError):  # only for words: a full disk is told of by who writes what matters
            write_json(owner_path, asdict(Process.current()))
        yield
    finally:
        owner_path.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: filelock.BaseFileLock, owner_path: Path, say: Callable[[str], None]) -> None:
    said, n_stopped = None, 0
    while True:
        try:
            lock.acquire(timeout=_SECONDS_UNTIL_SAID)
            return
        except filelock.Timeout:
            owner = _owner(owner_path)
        if owner != said:
            said = owner
            say(f"waiting for {owner or 'another process'}, which holds {lock.lock_file}")
        n_stopped = n_stopped + 1 if owner is not None and owner.is_stopped else 0
        if owner is not None and n_stopped >= _LOOKS_UNTIL_ENDED:
            say(f"{owner} was stopped while it held {lock.lock_file}, and is ended; its work is done again")
            owner.end()


def _owner(path: Path) -> Process | None:
    try:
        return Process.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
