"""Freeing leaves whole artefacts or none, whoever waits, works or is killed meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from harness.storage.freeing import Freed
from harness.storage.leftovers import Kept, Leftover, leftovers
from harness.storage.store import Store
from tests.support.children import forked, status

KEYS = [f"{i:032x}" for i in range(3)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return _filled(tmp_path)


def _filled(folder: Path) -> Store:
    store = Store(folder / "results", folder / "cache")
    for key in KEYS:
        with store.lock("fit", key):
            work = store.work_folder("fit", key)
            work.mkdir(parents=True)
            (work / "a").write_text("weights")
            (work / "b").write_text("more")
            store.commit("fit", key, {})
    store.checkpoint("fit", KEYS[0]).write_text("x")
    return store


def _free(store: Store) -> Freed:
    freed = Freed()
    freed.set_aside(leftovers(store.cache, Kept()))
    freed.delete()
    return freed


def test_everything_goes_locks_too(store: Store) -> None:
    freed = _free(store)
    assert not list((store.cache / "fits").iterdir())
    assert {one.kind for one in freed.freed} == {"fit", "checkpoint", "lock"}
    assert not freed.in_use and not freed.failed


def test_what_stands_in_the_place_of_a_lock_keeps_nothing(store: Store) -> None:
    for key in KEYS:
        lock = store.artefact("fit", key).with_name(f".{key}.lock")
        lock.unlink(missing_ok=True)
        lock.mkdir()
    freed = _free(store)
    assert not freed.in_use and not freed.failed


def test_what_a_process_holds_stays(store: Store) -> None:
    with store.lock("fit", KEYS[1]):
        freed = _free(store)
        assert {one.path.name.strip(".")[:32] for one in freed.in_use} == {KEYS[1]}
        assert store.manifest("fit", KEYS[1]) is not None
        assert (store.cache / "fits" / f".{KEYS[1]}.lock").exists()
    assert store.manifest("fit", KEYS[0]) is None


def test_killed_at_any_step_it_leaves_whole_artefacts_and_the_next_goes_on(tmp_path: Path) -> None:
    """Killed before the first, the second, ... change of a name, until one comes through."""
    for n_steps in itertools.count():
        store = _filled(tmp_path / str(n_steps))

        def work(store: Store = store, n_steps: int = n_steps) -> None:
            steps = itertools.count()

            def die(event: str, _: object) -> None:
                if event in ("os.rename", "os.remove", "os.rmdir") and next(steps) == n_steps:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(die)
            _free(store)

        ended = status(forked(work))
        for key in KEYS:
            is_there = store.artefact("fit", key).exists()
            assert is_there == (store.manifest("fit", key) is not None) and store.damage("fit", key) is None
        _free(store)
        assert not list((store.cache / "fits").iterdir())
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert n_steps > 20  # four renames, and what is deleted


def test_two_at_once_free_everything_once(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    found = list(leftovers(store.cache, Kept()))
    freed = [Freed(), Freed()]
    threads = [threading.Thread(target=lambda own=own: (own.set_aside(found), own.delete())) for own in freed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(own.failed for own in freed)
    gone = [one.path for own in freed for one in own.freed if one.kind == "fit"]
    stayed = {one.path for own in freed for one in own.in_use}
    assert len(gone) == len(set(gone)) and {*gone} | stayed >= {store.artefact("fit", key) for key in KEYS}


def test_a_lock_that_goes_while_others_wait_for_it_still_lets_in_one_at_a_time(tmp_path: Path) -> None:
    lock, inside, end = tmp_path / "a.lock", tmp_path / "inside", tmp_path / "end"

    def enter_often() -> None:
        n_entered = 0
        while not (n_entered and end.exists()):
            with filelock.FileLock(lock, poll_interval=0.0001):
                inside.mkdir()  # raises if another is inside
                time.sleep(0.002)
                inside.rmdir()
                n_entered += 1

    children = [forked(enter_often) for _ in range(2)]
    n_removed, until = 0, time.monotonic() + 60
    while n_removed < 20 and time.monotonic() < until:
        freed = Freed()
        freed.set_aside([Leftover("lock", lock, "", 0, lock)])
        n_removed += len(freed.freed)
    end.touch()
    assert [*map(status, children)] == [0, 0]
    assert n_removed == 20


def test_what_can_not_be_removed_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    freed = _free(store)
    assert freed.failed[store.artefact("fit", KEYS[0])] == "Read-only file system"
    assert all(store.manifest("fit", key) is not None for key in KEYS)
