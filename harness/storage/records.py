"""Records of cells: how each ended, and its table rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

UPSTREAM_FAILED = "UpstreamFailed"
"""The error type of a cell that was skipped because what it needs had failed."""


Status = Literal["done", "failed", "skipped"]


@dataclass(frozen=True)
class Record:
    """The end of a cell: its status, its table rows, and the error if there was one."""

    status: Status
    error_type: str | None = None
    error: str | None = None
    log: str | None = None
    """The log's path, relative to the results folder."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Table rows: `table, metric, value, n, higher_is_better, reason`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    incomplete: str | None = None
    """A thing that a finished cell lacks and a later run may still get, such as answers; the cell is then run again."""


def read_record(path: Path) -> Record | None:
    """The record at `path`; None where there is none that can be read."""
    try:
        return Record(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def cost(metric: str, value: float | None, n: int, reason: str | None = None) -> dict[str, Any]:
    """One row of the cost table, where less is better."""
    return row("cost", metric, value, n, higher_is_better=False, reason=reason)


def row(
    table: str, metric: str, value: float | None, n: int, higher_is_better: bool | None, reason: str | None = None
) -> dict[str, Any]:
    """One table row of a cell's record."""
    return {
        "table": table,
        "metric": metric,
        "value": value,
        "n": n,
        "higher_is_better": higher_is_better,
        "reason": reason,
    }
