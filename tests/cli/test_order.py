"""Words and options of the command line, in whatever order they come."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from harness.cli import main as cli

ACME = """
    import harness

    @harness.hookimpl
    def harness_specs():
        return [harness.EvaluationSpec("acme", 1, "Of this test", "in_any_order:Acme")]
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in_any_order.py").write_text(dedent(ACME))


def _told(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    assert cli.main(words) == 0
    return json.loads(capsys.readouterr().out)


def test_options_and_words_come_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    file = "plugin_files=[in_any_order.py]"
    listed = _told(capsys, "list", "evaluation", file, "--json")
    assert '"acme"' in json.dumps(listed)
    for words in (("evaluation", "--json", file), ("--json", "evaluation", file), (file, "--json", "evaluation")):
        assert _told(capsys, "list", *words) == listed
    shown = _told(capsys, "show", "evaluation/acme", file, "--json")
    for words in (("evaluation/acme", "--json", file), ("--json", "evaluation/acme", file)):
        assert _told(capsys, "show", *words) == shown


def test_overrides_after_an_option_count(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ("methods=[mean]", "seeds=[3]")
    expected = _told(capsys, "plan", "suite=smoke", *overrides, "--json")
    assert _told(capsys, "plan", "suite=smoke", "--json", *overrides) == expected
    assert _told(capsys, "status", "suite=smoke", "--json") != _told(
        capsys, "status", "suite=smoke", "--json", "methods=[mean]"
    )


def test_the_value_of_an_option_is_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["wandb-sync", "--mode", "never", "suite=smoke"]) == 2
    assert "invalid choice: 'never'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--jsn", "plugin_files=[in_any_order.py]"), ("evaluation", "--mode", "online")])
def test_an_unknown_option_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", *words]) == 2
    printed = " ".join(capsys.readouterr().err.split())
    option = next(word for word in words if word.startswith("--"))
    assert f"unrecognized arguments: {option}. See harness --help." in printed
