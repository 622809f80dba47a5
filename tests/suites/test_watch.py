"""`harness watch` on a suite that was run: a stream that changes, and one whose watch is killed."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli import main as cli
from harness.monitoring.monitor_folder import MonitorFolder
from tests.support.children import forked, status
from tests.support.result_tables import Finished

Cli = Callable[..., tuple[int, str, str]]
_WATCH = ("watch", "suite=smoke", "site=resid_post.2", "method=topk_sae", "batch=8", "window=16")
_N_BEFORE = 24


@pytest.fixture
def stream(smoke_run: Finished, harness_cli: Cli, tmp_path: Path) -> Path:
    """Documents as those of the suite, and then others."""
    smoke_run.copy_to(tmp_path)
    synthetic = harness.create("corpus", "synthetic", n_documents=_N_BEFORE, seed=9).documents()
    bible = [document.text[:200] for _, document in zip(range(16), _bible(), strict=False)]
    texts = [document.text for document in synthetic][:_N_BEFORE] + bible
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def _bible() -> Any:
    return harness.create("corpus", "packaged", name="bible").documents()


def _reports(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def _written(folder: Path) -> bytes:
    (path,) = folder.glob("results/smoke/watch/*/reports.jsonl")
    return path.read_bytes()


def test_a_stream_that_changes_raises_the_alarm(harness_cli: Cli, stream: Path, tmp_path: Path) -> None:
    code, output, errors = harness_cli(*_WATCH, f"stream={stream}")
    assert code == 0 and "calibrated on" in errors
    reports = _reports(output)
    assert [report["n_read"] for report in reports] == [8, 16, 24, 32, 40]
    assert [report["alarm"] for report in reports[:3]] == [False] * 3 and reports[-1]["alarm"]
    assert _N_BEFORE <= reports[-1]["alarm_document"] < _N_BEFORE + 16
    assert any(named["examples"] for named in reports[-1]["named"])
    assert _written(tmp_path).decode() == output

    assert harness_cli(*_WATCH, f"stream={stream}")[:2] == (0, "")
    with stream.open("a") as file:
        file.write('{"text": "One more document, which is as short as it is new."}\n')
    code, output, _ = harness_cli(*_WATCH, f"stream={stream}")
    assert code == 0 and [report["n_read"] for report in _reports(output)] == [41]
    lines = stream.read_text().splitlines(keepends=True)
    stream.write_text("".join(lines[1:]))
    code, output, errors = harness_cli(*_WATCH, f"stream={stream}")
    assert code == 2 and "does not begin with the 41 documents" in errors.replace("\n", " ")


@pytest.mark.parametrize("moment", ["before its state", "after its state"])
def test_a_watch_that_is_killed_goes_on(
    harness_cli: Cli, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    code, whole, _ = harness_cli(*_WATCH, f"stream={stream}")
    (folder,) = tmp_path.glob("results/smoke/watch/*")
    folder.rename(tmp_path / "whole")
    save, n_saved = MonitorFolder.save_state, 0

    def killed(self: MonitorFolder, about: Any) -> None:
        nonlocal n_saved
        n_saved += 1
        if n_saved == 3 and moment == "before its state":
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, about)
        if n_saved == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        monkeypatch.setattr(MonitorFolder, "save_state", killed)
        cli.main([*_WATCH, f"stream={stream}"])

    assert status(forked(work)) == -signal.SIGKILL
    assert _written(tmp_path).count(b"\n") == 2
    with next(tmp_path.glob("results/smoke/watch/*/reports.jsonl")).open("ab") as file:
        file.write(b'{"n_read": 2')  # as a line looks in the middle of which power went
    code, _, _ = harness_cli(*_WATCH, f"stream={stream}")
    assert code == 0 and _written(tmp_path).decode() == whole


def test_a_pipe_goes_on_where_the_last_one_ended(
    harness_cli: Cli, stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(text: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return harness_cli(*_WATCH, "stream=-")

    first = piped("the baker follows the old rule.\n\nthe probe needs its own shadow\n")
    second = piped('{"text": "the judge reveals what was promised"}\n')
    reports = _reports(first[1] + second[1])
    assert [(report["n_read"], report["n_documents"]) for report in reports] == [(2, 2), (3, 3)]
    assert "after 2 documents of earlier calls" in second[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["site=resid_post.1", "method=mean"], "which stream?"),
        (["stream=s.txt"], "decompositions match"),
        (["site=resid_post.1", "method=men", "stream=s.txt"], "no method 'men' here"),
        (["site=resid_post.1", "method=mean", "stream=nowhere.txt"], "is no file"),
        (["site=resid_post.1", "method=mean", "stream=s.txt", "batch=no"], "batch is 'no'"),
        (["site=resid_post.1", "method=mean", "stream=s.jsonl"], "s.jsonl line 2: no field 'text'. Fields: body."),
    ],
)
def test_what_can_not_be_watched_is_said(
    smoke_run: Finished, harness_cli: Cli, tmp_path: Path, words: list[str], message: str
) -> None:
    smoke_run.copy_to(tmp_path)
    (tmp_path / "s.txt").write_text("one\n")
    (tmp_path / "s.jsonl").write_text('{"text": "one"}\n{"body": "two"}\n')
    code, output, errors = harness_cli("watch", "suite=smoke", *words)
    assert code == 2 and output == "" and message in " ".join(errors.split())
    assert "Traceback" not in errors
