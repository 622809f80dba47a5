"""The benchmarks of a card, in miniature, so that they are known to work when a card comes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from tests.support.tiny_models import TEXTS, save_tiny_language_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OF_METHODS = ["itda", "kinds", "kmeans", "pursuit", "similarity", "stacked", "topk"]
SLOW_LINES = ["capture", "downstream", "feed", "judge", "latents", "quickstart", "results", "tables"]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def lines(scripts: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lines of results in small; rows that are written go to the list `written`."""
    import card
    import gpu_results

    found = gpu_results.ResultLines(card.Board(torch.device("cpu"), 1, is_kept=True), None, is_tiny=True)
    found.written = []
    monkeypatch.setattr(gpu_results, "where", lambda device: {"device": "none"})
    monkeypatch.setattr(gpu_results, "write", lambda table, columns, key, row: found.written.append(row))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_tiny_language_model("gpt2", tmp_path_factory.mktemp("gpt2"))
    return harness.create("model", "hf", path=str(folder))


def test_the_time_to_a_result_is_that_of_the_first_budget_that_reaches_it(
    lines: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_results

    rows = [gpu_results.Rows(torch.randn(n, 8), 100.0 * n) for n in (40, 80, 160)]
    values = {40: (0.5, 9.0), 80: (0.8, 0.4), 160: (0.9, 0.3)}
    monkeypatch.setattr(gpu_results, "_fit", lambda method, m, k, x: len(x))
    monkeypatch.setattr(
        gpu_results,
        "_measured",
        lambda fitted, *_: dict(zip(("explained_variance", "ce_increase"), values[fitted], strict=True)) | {"l0": 4.0},
    )
    lines._of_method("a model", "TopK", rows, None, {"explained_variance": 0.8, "ce_increase": 0.3})
    lines._of_method("a model", "ITDA", rows, None, {"explained_variance": 0.95})
    found = [(row["method"], row["to_reach"], row["tokens"], row["seconds"]) for row in lines.written]
    assert [row[:3] for row in found] == [
        ("TopK", "explained_variance 0.8", 80),
        ("TopK", "ce_increase 0.3", 160),
        ("ITDA", "explained_variance 0.95", 160),
    ]
    assert [row[3] for row in found] == ["8e+03", "1.6e+04", "not reached"]  # capture included


def test_results_of_a_real_model(lines: Any, model: Any) -> None:
    import gpu_models
    import gpu_results

    context = harness.evaluation_context(model, TEXTS, "resid_post.1", fit_x=torch.ones(1, model.width))
    context = gpu_models.on_device(context, torch.device("cpu"))
    steps = list(lines._captured(model, [*TEXTS] * 4, "resid_post.1"))
    assert len(steps[-1].x) > len(steps[0].x) and steps[-1].seconds > steps[0].seconds > 0
    for method in gpu_results.METHODS:
        lines._of_method("tiny", method, steps[-1:], context, {"explained_variance": -9.0, "ce_increase": 99.0})
    assert len(lines.written) == 2 * len(gpu_results.METHODS)
    assert {row["capture_seconds"] for row in lines.written} == {f"{steps[-1].seconds:.3g}"}
    assert all(0 < float(row["l0"]) <= 4.5 for row in lines.written)


def test_differences_are_told_by_table_and_metric(scripts: None) -> None:
    from gpu_models import differences

    def row(metric: str, a: object, b: object) -> dict[str, Any]:
        return {"what": {"metric": metric, "site": "x"}, "column": "value", "a": a, "b": b}

    different = [row("kl", 2.0, 1.0), row("kl", 1.0, 1.0001), row("l0", "done", "failed"), row("l0", 0.0, 0.0)]
    table = {"table": "downstream", "n_rows": 9, "only_a": [row("l0", 1.0, None)], "only_b": [], "different": different}
    whole, kl, l0 = differences([table])
    assert (whole["rows"], whole["of one side alone"], whole["different"]) == (9, 1, 4)
    assert (kl["metric"], kl["different"], kl["largest relative"]) == ("kl", 2, "0.5")
    assert (l0["metric"], l0["largest relative"]) == ("l0", "inf")


def test_a_row_of_the_table_takes_the_place_of_the_one_before(scripts: None, tmp_path: Path) -> None:
    import card

    table = tmp_path / "table.csv"
    for seconds in (2, 1):
        for work in ("b", "a"):
            card.write(table, ["work", "seconds"], ["work"], {"work": work, "seconds": seconds, "other": 0})
    assert table.read_text() == "work,seconds\na,1\nb,1\n"


@pytest.mark.slow
@pytest.mark.parametrize("line", [None, *SLOW_LINES])
def test_every_line_runs_in_miniature(line: str | None) -> None:
    """All of methods in one process, and those of models one by one."""
    command = [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--rounds", "1", "--only"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *([line] if line else OF_METHODS)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Ceilings" in done.stdout and len(done.stdout.splitlines()) >= 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_every_line_is_in_the_slow_test_and_without_a_card_nothing_is_claimed(
    scripts: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    assert gpu.lines_by_name().keys() == {*OF_METHODS, *SLOW_LINES}
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 1 and "nothing was run and nothing was recorded" in capsys.readouterr().err
