"""Results of a run, read and compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

# Columns that may differ between two runs of one suite, besides the measured values of `cost`.
RUN_COLUMNS = ["created_at", "git_sha"]


@dataclass(frozen=True)
class Finished:
    """A run that has ended: where it ran and what it printed. The folder is for all; work on a copy."""

    folder: Path
    code: int
    output: str
    errors: str

    def copy_to(self, folder: Path) -> None:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, symlinks=True)


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
