"""Workers elsewhere are told all that they need by the words of a command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.planning.overrides import value_of
from harness.running.board import Board
from harness.running.crews.crew import work_command
from harness.storage.store import Store
from tests.support.toy_suites import plan_of, raw_suite


def _words(folder: Path, files: list[str]) -> list[str]:
    plan = plan_of(raw_suite(folder))
    config = replace(plan.suite.config, plugin_files=files)
    plan = replace(plan, suite=replace(plan.suite, config=config))
    store = Store(folder / "results" / "example", folder / "cache")
    return work_command(plan, store, Board(folder, made_with={"id": "b"}))


def test_plugin_files_are_named_whatever_they_are_called(tmp_path: Path) -> None:
    files = ["a.py", "sub dir/b c.py", "it's.py", 'q"q.py', "ünï,[x].py", "${x}.py"]
    *_, named = _words(tmp_path, files)
    assert value_of(named) == files


def test_without_plugin_files_there_is_no_word_for_them(tmp_path: Path) -> None:
    words = _words(tmp_path, [])
    assert words[-4:] == ["work", "suite=example", "name=example", "--board=b"]
