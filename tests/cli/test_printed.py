"""Boards that are printed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.printed import print_again, print_boards
from harness.tables.results import Results
from tests.support.report_examples import finished


def test_boards_are_printed_as_before_until_what_they_show_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = finished(tmp_path)
    results = Results.of(plan, store)
    assert not print_again(store, results.source)
    print_boards(store, results)
    first = capsys.readouterr().out
    assert "Methods on model-a" in first
    assert print_again(store, results.source) and capsys.readouterr().out == first
    assert not print_again(store, "another source")
    monkeypatch.setattr("harness.cli.printed.out.width", 60)
    assert not print_again(store, results.source) and not capsys.readouterr().out
