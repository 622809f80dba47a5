"""`harness report` at the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main as cli

# The mean has no latents: there is a table of scores without a single score in it.
SMALL = ["suite=smoke", "methods=[mean]", "evaluations=[reconstruction]", "similarities=[]", "wandb.mode=disabled"]
INTERP = ["tokens.interp=2000", "scorers=[token_lookup]"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("warm_workers")
def test_a_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *SMALL, *INTERP, "name=small"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "suite=smoke", "name=small"]) == 0
    assert capsys.readouterr().out == "Report: results/small/report/index.html\n"
    assert "random-gpt2" in (tmp_path / "results/small/report/index.html").read_text()


def test_without_results_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "suite=smoke"]) == 2
    assert "nothing of 'smoke' is done yet; `harness run` it first" in capsys.readouterr().err
