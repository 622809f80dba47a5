"""A cell: one unit of work with a content-addressed key, and the record of how it went.

Invariant: a record is one file, written atomically when the cell has ended; a cell without a record has not ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.disk import writing

Kind = Literal["capture", "fit", "evaluation", "latents", "explanation", "scoring", "similarity", "task"]
UPSTREAM_FAILED = "UpstreamFailed"
"""The error type of a cell that was skipped because what it needs had failed."""
Status = Literal["done", "failed", "skipped"]


@dataclass(frozen=True)
class Cell:
    """What to do, what it depends on, and which columns its table rows carry."""

    kind: Kind
    key: str
    label: str
    """For people: `fit itda(k=40) on smollm2-135m resid_post.15`."""
    group: str
    """Cells of one group share work: one forward pass, one stream."""
    task: Mapping[str, Any]
    """All that a worker needs, as JSON."""
    columns: Mapping[str, Any]
    """Identity columns of its table rows."""
    upstream: tuple[str, ...] = ()
    skipped: str | None = None
    """Why this cell can't be done; known when planning."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        return cls(**{**data, "upstream": tuple(data["upstream"])})


@dataclass(frozen=True)
class Record:
    """How a cell went."""

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
    """What is missing from a cell that is done, and may yet be had: to a run the cell is to do."""


def write_json(path: Path, data: Any) -> None:
    """Atomically: a reader sees the old file or the whole new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w") as file:
                json.dump(data, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_record(path: Path) -> Record | None:
    """The record at `path`; None where there is none that can be read."""
    try:
        return Record(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
