"""Records of cells: how each ended, and its table rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

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


Stamp: TypeAlias = tuple[int, int, int]
"""Inode, modification time and size of a file: another one whenever a record is replaced, which is by a rename."""


def stamp_of(path: str) -> Stamp | None:
    """The stamp of a record's file; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a path object for each of 100,000 records takes longer than the look
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_record(path: str | Path) -> Record | None:
    """The record at `path`; None where there is none that can be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # as above
            read = json.loads(file.read().decode())
        if versions := read.get("provenance", {}).get("versions"):
            read["provenance"]["versions"] = _VERSIONS.setdefault(tuple(versions.items()), versions)
        return Record(**read)
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None


_VERSIONS: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
"""Versions of packages, which are the same in most records: one copy of each."""


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
