"""The ends that a verb may come to, and the exit codes that they lead to."""

from __future__ import annotations

import pytest

from harness.cli.main import main
from harness.planning import config


def test_a_lack_of_memory_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compose(words: list[str]) -> None:
        raise MemoryError

    monkeypatch.setattr(config, "compose", compose)
    assert main(["plan", "suite=smoke"]) == 2
    assert "out of memory; what is done stays done" in capsys.readouterr().err
