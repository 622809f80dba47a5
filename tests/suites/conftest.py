"""Running real suites: the command line in this process, its workers in theirs."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import main as cli
from tests.support.result_tables import Finished
from tests.support.shared import once

PRINTED = "printed.json"


@pytest.fixture(scope="session")
def shared_cache(shared_folder: Path) -> Path:
    """A cache that most tests share, so that each capture is made once."""
    return shared_folder / "cache"


@pytest.fixture(scope="session")
def smoke_run(shared_folder: Path, shared_cache: Path) -> Finished:
    """`harness run suite=smoke` in an empty folder, W&B's offline log included, once for all who look at it."""
    made = once(shared_folder / "smoke", lambda folder: _smoke_run(folder, shared_cache))
    return Finished(made, *json.loads((made / PRINTED).read_text()))


def _smoke_run(folder: Path, cache: Path) -> None:
    output, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        patch.chdir(folder)
        patch.setenv("HARNESS_CACHE", str(cache))
        patch.delenv("WANDB_MODE", raising=False)
        code = cli.main(["run", "suite=smoke"])
    (folder / PRINTED).write_text(json.dumps([code, output.getvalue(), errors.getvalue()]))


@pytest.fixture
def harness_cli(
    tmp_path: Path,
    shared_cache: Path,
    warm_workers: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`harness ARGUMENTS` in an empty folder: exit code, standard output, standard error.

    Without W&B, which takes as long as the rest of a small run; who looks at it asks for `with_wandb` too.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HARNESS_CACHE", str(shared_cache))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call


@pytest.fixture
def with_wandb(harness_cli: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log to W&B as the suite says: offline, if it says nothing."""
    monkeypatch.delenv("WANDB_MODE")
