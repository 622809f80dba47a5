"""`harness gc` beside real runs: what is freed is made again, and what a run works with stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.result_tables import assert_equal_tables, read_tables

Cli = Callable[..., tuple[int, str, str]]
_SMALL = (
    *("suite=smoke", "methods=[mean,{method: pca, n_components: 4}]", "models.0.sites=[resid_post.1]"),
    *("scorers=[]", "similarities=[]", "evaluations=[reconstruction]", "explainers=[]"),
    "tokens={fit: 500, evaluation: 300, interp: 0}",
)


@pytest.fixture
def cache(tmp_path: Path, harness_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _freed(cli: Cli, *arguments: str) -> dict[str, int]:
    """Numbers of leftovers by kind, locks left out."""
    code, output, errors = cli("gc", *arguments, "--json")
    assert code == 0, errors
    kinds = [line["kind"] for line in json.loads(output)["leftovers"] if line["kind"] not in ("lock", "checksum")]
    return {kind: kinds.count(kind) for kind in kinds}


def test_what_is_freed_is_made_again_where_it_is_needed(harness_cli: Cli, cache: Path, tmp_path: Path) -> None:
    code, _, errors = harness_cli("gc")
    assert code == 2 and "no results" in errors and "harness gc suite=NAME" in errors
    assert harness_cli("run", *_SMALL)[0] == 0
    assert harness_cli("run", *_SMALL, "methods=[mean,identity]", "name=other")[0] == 0
    results = tmp_path / "results" / "smoke"
    before = read_tables(results)
    assert _freed(harness_cli) == {}
    code, output, _ = harness_cli("gc", "suite=smoke")
    assert code == 0 and "no suite given needs it" in output and "--yes removes it" in output
    assert _freed(harness_cli, "suite=smoke", "--yes") == {"fit": 1}  # identity
    assert _freed(harness_cli, "results/smoke", "--captures", "--yes") == {"capture": 2}
    assert not list(cache.glob("*/.*.lock"))
    assert _freed(harness_cli, "--models", "--yes") == {"model": 1}

    # All that is done stays done; a method more needs captures and the model, which are made as they were.
    code, output, _ = harness_cli("status", "suite=smoke", "--json")
    assert code == 0 and {cell["state"] for cell in json.loads(output)["cells"]} == {"done"}
    assert harness_cli("run", *_SMALL, "methods=[mean,{method: pca, n_components: 4},identity]")[0] == 0
    after = {name: table[table["method"].fillna("") != "identity"] for name, table in read_tables(results).items()}
    assert_equal_tables({name: table.reset_index(drop=True) for name, table in after.items()}, before)
    assert len(list(cache.glob("activations/[!.]*"))) == 2


def test_a_suite_that_can_not_be_read_stops_it(harness_cli: Cli, cache: Path, tmp_path: Path) -> None:
    strange = cache / "fits" / ("f" * 32)
    strange.mkdir(parents=True)
    for name, text in (("old", "name: old\nmodel: gone\n"), ("whole", "name: whole\n")):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "suite.yaml").write_text(text)
    code, _, errors = harness_cli("gc", "--yes")
    assert code == 2 and "results/old/suite.yaml" in errors and "nothing is freed" in errors
    assert strange.exists()
    assert harness_cli("gc", "sweet=smoke")[0] == 2
    assert harness_cli("gc", "nowhere")[0] == 2
    assert harness_cli("gc", "suite=smoke", "--yes")[0] == 0  # a suite that has not run yet
    assert not strange.exists()


def test_suites_that_ran_in_other_folders_are_kept(
    harness_cli: Cli, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert harness_cli("run", *_SMALL)[0] == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _freed(harness_cli) == {}
    assert json.loads(harness_cli("gc", "--json")[1])["kept"] == [str(tmp_path / "results" / "smoke")]

    [entry] = cache.glob("results/*.json")
    written = json.loads(entry.read_text())
    away = tmp_path / "results" / "moved"
    (tmp_path / "results" / "smoke").rename(away)
    entry.write_text(json.dumps(written | {"host": "another-machine"}))
    assert _freed(harness_cli, "--captures", "--yes") == {}  # perhaps only out of sight here

    entry.write_text(json.dumps(written))  # of this machine, so it is known to be gone
    code, _, errors = harness_cli("gc", "--yes")
    assert code == 2 and "nothing would be kept" in errors
    assert _freed(harness_cli, str(away), "--yes") == {"needs": 1}
    assert not entry.exists() and len(list(cache.glob("fits/[!.]*"))) == 2


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "harness", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _until(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    while process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.01)


def test_beside_a_run_and_after_one_that_was_killed(
    harness_cli: Cli, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a suite elsewhere is to be kept, and two processes free again and again while another suite runs."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    freeing = ("gc", "suite=quickstart", "--captures", "--models", "--yes")
    run = _start(here, "run", *_SMALL)
    _until(run, cache, "activations/*")
    run.send_signal(signal.SIGKILL)
    run.communicate()
    run = _start(here, "run", *_SMALL)
    _until(run, cache, "at_work/*.lock")
    monkeypatch.chdir(elsewhere)
    while run.poll() is None:
        other = _start(elsewhere, *freeing)
        assert harness_cli(*freeing)[0] == 0
        said, code = other.communicate()[1], other.returncode
        assert code == 0 and all(line.startswith("waiting for process ") for line in said.splitlines()), said
    assert run.returncode == 0, run.communicate()
    run.communicate()
    assert _freed(harness_cli, *freeing[1:]) in ({"capture": 2, "fit": 2, "model": 1}, {})
    assert not list(cache.glob("*/[!.]*/*.safetensors"))
    assert set(read_tables(here / "results" / "smoke")["reconstruction"]["status"]) <= {"done", "undefined"}
