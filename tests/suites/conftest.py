"""Running real suites: the command line in this process, its workers in theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import cli

# Columns that may differ between two runs of one suite; see also `measured`.
RUN_COLUMNS = ["created_at", "git_sha"]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that most tests share, so that each capture is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def harness_cli(
    tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`harness ARGUMENTS` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(shared_cache))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables under a results folder."""
    return {path.stem: pd.read_parquet(path) for path in sorted((folder / "tables").glob("*.parquet"))}


def comparable(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables without what is measured or says when and from which commit."""
    found = {name: table.drop(columns=RUN_COLUMNS) for name, table in tables.items()}
    is_count = found["cost"]["metric"].isin(["capture_tokens", "tokens_seen", "tokens_distinct", "parameters"])
    found["cost"] = found["cost"].assign(value=found["cost"]["value"].where(is_count))
    return found


def assert_equal_tables(a: dict[str, pd.DataFrame], b: dict[str, pd.DataFrame]) -> None:
    a, b = comparable(a), comparable(b)
    assert a.keys() == b.keys()
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name], check_exact=True)


def states(output: str) -> dict[str, str]:
    """Label to state, from `plan --json` or `status --json`."""
    cells: list[dict[str, Any]] = json.loads(output)["cells"]
    return {cell["label"]: cell["state"] for cell in cells}
