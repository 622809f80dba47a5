"""Records of cells: how each ended, and its table rows.

A record is sealed under its file's name, and so is known from another cell's. Those of earlier versions have no
checksum: one that has exactly their keys, with values that fit, is taken as it is until a run seals it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from harness.files import unsealed, write_sealed

UPSTREAM_FAILED = "UpstreamFailed"
"""The error type of a cell that was skipped because what it needs had failed."""


Status = Literal["done", "failed", "skipped"]
_STATUSES = get_args(Status)


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
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Digests of the artefacts that it was made from, by their place in the cache."""
    verdicts: str | None = None
    """The sha256 of the file of verdicts beside the record, if there is one."""


_KEYS = {known.name for known in fields(Record)}


class Damaged(Exception):
    """A record that is not as it was written; the message says in what."""


Stamp: TypeAlias = tuple[int, int, int]
"""Inode, modification time and size of a file: another one whenever a record is replaced, which is by a rename."""


def stamp_of(path: str) -> Stamp | None:
    """The stamp of a record's file; None where there is none, or a link that leads to itself."""
    try:
        found = os.stat(path)  # noqa: PTH116  # a path object for each of 100,000 records takes longer than the look
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_record(path: str | Path, *, with_rows: bool = True) -> tuple[Record, bool] | None:
    """The record at `path`, and whether it is sealed; None where there is none.

    Args:
        path: of its file.
        with_rows: its table rows too, which are most of it and take long to parse.

    Raises:
        Damaged: it is not as it was written, or another cell's.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # as above
            content = file.read()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except OSError as error:  # such as a disk that can't read it any more
        raise Damaged(f"it can't be read: {error.strerror}") from None
    body = unsealed(content, os.path.basename(path))  # noqa: PTH119  # as above
    if body is None:
        read = _of_earlier_version(content)
    else:
        read = json.loads((body if with_rows else body[: body.index(_ROWS)]).decode() + "}")
    if not _KEYS >= read.keys() >= {"status", "provenance"} or read["status"] not in _STATUSES:
        raise Damaged("it is of another version, or no record")
    if versions := read["provenance"].get("versions"):
        read["provenance"]["versions"] = _VERSIONS.setdefault(tuple(versions.items()), versions)
    record = Record(**read)
    return (record if with_rows else replace(record, rows=[])), body is not None


def write_record(path: Path, record: Record) -> None:
    """Write a record, sealed, with its rows behind all else."""
    write_sealed(path, {name: value for name, value in vars(record).items() if name != "rows"} | {"rows": record.rows})


_ROWS = b', "rows": ['
"""The place in a sealed record behind which its rows are; quotes inside of texts have a backslash before them."""
_VERSIONS: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
"""Versions of packages, which are the same in most records: one copy of each."""
_TEXT, _NUMBER = (str, type(None)), (int, float, type(None))
_EARLIER: dict[str, Any] = {
    **{"status": str, "error_type": _TEXT, "error": _TEXT, "log": _TEXT, "rows": list, "provenance": dict},
    **{"seconds": _NUMBER, "incomplete": _TEXT},
}
"""The keys of records without a checksum, and the types of what they hold."""


def _of_earlier_version(content: bytes) -> dict[str, Any]:
    """The content of a record without a checksum; one that has lost its own has a key more than those had."""
    try:
        read: Any = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise Damaged("it is no JSON") from None
    if not isinstance(read, dict) or read.keys() & (_KEYS - _EARLIER.keys()):
        raise Damaged("its checksum differs")
    if not _is_of_earlier_version(read):
        raise Damaged("it has no checksum, and is no record of an earlier version either")
    return read


def _is_of_earlier_version(read: dict[str, Any]) -> bool:
    if read.keys() != _EARLIER.keys() or not all(isinstance(read[name], own) for name, own in _EARLIER.items()):
        return False
    versions = read["provenance"].get("versions", {})
    has_versions = isinstance(versions, dict) and all(isinstance(version, str) for version in versions.values())
    return has_versions and all(map(_is_row, read["rows"]))


def _is_row(found: Any) -> bool:
    try:
        has_texts = isinstance(found["table"], str) and isinstance(found["metric"], str)
        return has_texts and isinstance(found["reason"], _TEXT) and isinstance(found["value"], _NUMBER)
    except (KeyError, TypeError):
        return False


def of_artefact(manifest: Mapping[str, Any]) -> Record:
    """The record of a cell whose artefact is there, by its manifest."""
    return Record(
        "done",
        rows=manifest["cost"],
        provenance=manifest["provenance"],
        incomplete=manifest.get("incomplete"),
        made_from=manifest.get("made_from", {}),
    )


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
