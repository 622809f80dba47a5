"""Boards that are printed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.printed import print_boards, printed
from harness.tables.results import Results
from tests.support.report_examples import finished


def test_boards_are_printed_as_before_until_what_they_show_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = finished(tmp_path)
    results = Results.of(plan, store)
    assert printed(store, results.source) is None
    print_boards(store, results)
    first = capsys.readouterr().out
    assert "Methods on model-a" in first and printed(store, results.source) == first
    assert printed(store, "another source") is None
    monkeypatch.setattr("harness.cli.printed.out.width", 60)
    assert printed(store, results.source) is None


def test_boards_with_a_changed_digit_are_not_printed(tmp_path: Path) -> None:
    plan, store = finished(tmp_path)
    results = Results.of(plan, store)
    print_boards(store, results)
    (memory,) = store.results.glob(".made_boards.json")
    memory.write_text(memory.read_text().replace("0.", "1.", 1))
    assert printed(store, results.source) is None
