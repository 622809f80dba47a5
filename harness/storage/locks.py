"""Locks whose owner is known: who waits says for whom, and an owner that was stopped holds nobody up."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import filelock

from harness.errors import StoreError
from harness.files import set_aside, write_json
from harness.storage.processes import Process

_SECONDS_UNTIL_SAID = 5.0
_LOOKS_UNTIL_ENDED = 12
"""Looks in a row, each after so many seconds, at which an owner is found stopped before it is ended."""
_SECONDS_PER_TRY = 0.05


class _Lock(Protocol):
    def acquire(self, timeout: float) -> object: ...

    def release(self) -> None: ...


def file_lock(path: Path) -> filelock.BaseFileLock:
    """The lock of a file; a folder or a link that stands in its place is set aside."""
    if path.is_symlink() or path.is_dir():
        with suppress(OSError):  # another process was quicker, or it is another user's
            set_aside(path)
    return filelock.FileLock(path)


@contextmanager
def owned_lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock at a path; a file beside it, `NAME.owner`, says who does.

    Another user's lock that may only be read is held all the same. One that may not even be read can't be: that is
    said, and the work done without, for whatever is made appears whole.
    """
    try:
        lock = _acquired(path, say)
    except OSError as error:
        if not path.exists():
            raise StoreError(
                f"nothing can be made in {path.parent}: {error.strerror}. Look at whose it is, and at its disk; or "
                "give another cache, $HARNESS_CACHE."
            ) from error
        say(f"{path} can't be locked ({error.strerror}); going on without it")
        yield
        return
    owner_path = _owner_path(path)
    try:
        with suppress(OSError, StoreError):  # only for words: a full disk is told of by who writes what matters
            write_json(owner_path, asdict(Process.current()) | {"user": _user(), "since": time.strftime("%F %T")})
        yield
    finally:
        with suppress(OSError):
            owner_path.unlink(missing_ok=True)
        lock.release()


def _acquired(path: Path, say: Callable[[str], None]) -> _Lock:
    try:
        lock: _Lock = file_lock(path)
        _wait(lock, path, say)
    except PermissionError:
        if not path.exists():
            raise
        lock = _ReadableLock(path)
        _wait(lock, path, say)
    return lock


def _wait(lock: _Lock, path: Path, say: Callable[[str], None]) -> None:
    said: Any = ""
    n_stopped = 0
    while True:
        try:
            lock.acquire(timeout=_SECONDS_UNTIL_SAID)
            return
        except filelock.Timeout:
            found = _read_owner(path)
        owner = Process.from_json(found) if found else None
        if found != said:
            said = found
            who = f"{owner} ({found['user']}, since {found['since']} there)" if found else "another process"
            say(f"waiting for {who}, which holds {path}")
        n_stopped = n_stopped + 1 if owner is not None and owner.is_stopped else 0
        if owner is not None and n_stopped >= _LOOKS_UNTIL_ENDED:
            say(f"{owner} was stopped while it held {path}, and is ended; its work is done again")
            owner.end()


class _ReadableLock:
    """The lock of a file that may be read and not written, such as another user's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def acquire(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while not self._has_lock():
            if time.monotonic() > until:
                raise filelock.Timeout(str(self._path))
            time.sleep(_SECONDS_PER_TRY)

    def _has_lock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def _owner_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _read_owner(path: Path) -> dict[str, Any] | None:
    """The owner of a lock as it has written itself down; None where it has not, or not wholly."""
    try:
        found: dict[str, Any] = json.loads(_owner_path(path).read_text())
        Process.from_json(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"user": "unknown", "since": "some time"} | found


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name  # what the environment says may be of who has called sudo
    except KeyError:  # a number without a name
        return str(os.getuid())
