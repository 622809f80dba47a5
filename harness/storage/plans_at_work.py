"""Plans at work: the artefacts that running runs rest on, wherever these were started, so that nobody frees them.

A run reads captures and fits without a lock, for they never change. So each run says which artefacts are its plan's: in
a file of the cache beside a lock that it holds as long as it lives. Whoever frees holds the turn while setting aside,
and a run takes the turn before it looks at what there is: it sees an artefact that stays, or none.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock

from harness.errors import StoreError
from harness.files import read_sealed, write_sealed
from harness.storage.locks import owned_lock

_FOLDER = "at_work"


@contextmanager
def at_work(cache: Path, keys: Iterable[str]) -> Iterator[None]:
    """Keep artefacts from being freed. In a cache that can't be written nothing is freed either, so nothing is said."""
    path = cache / _FOLDER / f"{uuid.uuid4().hex}.json"
    with ExitStack() as held:
        with suppress(OSError, StoreError), freeing(cache):
            write_sealed(path, {"keys": sorted(keys)})
            held.enter_context(filelock.FileLock(path.with_suffix(".lock")))
            held.callback(_forget, path)
        yield


@contextmanager
def freeing(cache: Path) -> Iterator[None]:
    """Have the turn: one process at a time sets leftovers aside, or begins to rely on what is there."""
    folder = cache / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with owned_lock(folder / "turn", lambda text: print(text, file=sys.stderr, flush=True)):
        yield


def keys_at_work(cache: Path) -> set[str]:
    """The keys of the artefacts that the plans of running runs have.

    Raises:
        StoreError: a run is at work whose file is damaged, so that it is not known what it rests on.
    """
    found: set[str] = set()
    for path in (cache / _FOLDER).glob("*.json"):
        if is_held(path.with_suffix(".lock")):
            plan = read_sealed(path)
            if not plan and path.exists():  # else it ended just now
                raise StoreError(f"{path} is damaged: what a run at work needs is not known. Wait until it has ended.")
            found.update(plan.get("keys", ()))
    return found


def ended(cache: Path) -> list[Path]:
    """The files of runs that were killed."""
    return [path for path in (cache / _FOLDER).glob("*.json") if not is_held(path.with_suffix(".lock"))]


def is_held(lock: Path) -> bool:
    """True if a process holds a lock; also where that can't be found out. The file is not made."""
    if not lock.is_file():  # nor can a folder in its place be held
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except (filelock.Timeout, OSError):
        return True


def _forget(path: Path) -> None:
    # While the lock is held: its name is used once, so nobody waits for it.
    for own in (path, path.with_suffix(".lock")):
        own.unlink(missing_ok=True)
