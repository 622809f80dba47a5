"""Runs say what they rest on, as long as they live."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.storage.plans_at_work import at_work, ended, freeing, is_held, keys_at_work
from tests.support.children import forked, status


def test_keys_are_known_as_long_as_a_run_lives(tmp_path: Path) -> None:
    assert keys_at_work(tmp_path) == set()
    with at_work(tmp_path, ["a", "b"]), at_work(tmp_path, ["b", "c"]):
        assert keys_at_work(tmp_path) == {"a", "b", "c"} and ended(tmp_path) == []
    assert keys_at_work(tmp_path) == set()
    assert [path.name for path in (tmp_path / "at_work").iterdir()] == ["turn"]


def test_where_it_is_not_known_what_a_run_needs_nothing_is_freed(tmp_path: Path) -> None:
    with at_work(tmp_path, ["a", "b"]):
        (path,) = (tmp_path / "at_work").glob("*.json")
        path.write_bytes(path.read_bytes().replace(b'"a"', b'"c"'))
        with pytest.raises(StoreError, match=f"{path} is damaged"):
            keys_at_work(tmp_path)
    assert keys_at_work(tmp_path) == set()


def test_a_killed_run_keeps_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()

    def run() -> None:
        with at_work(tmp_path, ["a"]):
            os.write(write, b"x")
            signal.pause()

    child = forked(run)
    assert os.read(read, 1) == b"x"
    assert keys_at_work(tmp_path) == {"a"}
    os.kill(child, signal.SIGKILL)
    assert status(child) == -signal.SIGKILL
    assert keys_at_work(tmp_path) == set()
    (left,) = ended(tmp_path)
    assert left.exists() and not is_held(left.with_suffix(".lock"))


def test_a_run_waits_while_leftovers_are_set_aside(tmp_path: Path) -> None:
    def run() -> None:
        with at_work(tmp_path, ["a"]):
            pass

    with freeing(tmp_path):
        child = forked(run)
        assert os.waitpid(child, os.WNOHANG) == (0, 0) and not list((tmp_path / "at_work").glob("*.json"))
    assert status(child) == 0


def test_in_a_cache_that_can_not_be_written_a_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "at_work").write_text("no folder can be made here")
    with at_work(tmp_path, ["a"]):
        assert keys_at_work(tmp_path) == set()


def test_a_folder_in_the_place_of_a_lock_is_held_by_nobody(tmp_path: Path) -> None:
    with at_work(tmp_path, ["a"]):
        (path,) = tmp_path.glob("at_work/*.json")
    path.touch()
    path.with_suffix(".lock").mkdir()
    assert ended(tmp_path) == [path] and keys_at_work(tmp_path) == set()
