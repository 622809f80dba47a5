"""Equality of two results: their tables row by row, without what is measured of a machine.

Rows of both are about one thing where all columns agree that say what was measured. The suite's name, the cell and
what a run adds are none of these, so results from other machines, devices and versions may be compared. A row is equal
if its status, reason, value and all that stands beside it are, to the last bit. Left out are `created_at`, `git_sha`,
`device`, `harness_version`, the path of the log, and the values of seconds and bytes, which no two runs share; and the
table of verdicts on single windows, which scores are made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from harness.errors import ConfigError
from harness.tables.costs import COSTS
from harness.tables.sealed_tables import table_damage

_OF_RUN = ("suite", "cell", "log", "device", "harness_version", "git_sha", "created_at")
_FOUND = (
    *("status", "error", "value", "n", "higher_is_better", "note", "plugin_version"),
    *("weight", "density", "active_share", "chance", "lowest", "highest"),
)
_MEASURED = [metric.name for metric in COSTS if metric.format in ("seconds", "bytes")]
"""Names of metrics, in which * stands for the name of a plugin."""


@dataclass(frozen=True)
class Difference:
    """A row of a table in which two results differ."""

    what: Mapping[str, Any]
    """The columns that say what the row is about, but for those without a value."""
    column: str
    """The first column that differs; empty if only one of the results has the row."""
    a: Any
    b: Any

    @property
    def relative(self) -> float:
        """The distance of two numbers as a share of the larger; infinite for anything else that differs."""
        if not all(isinstance(side, int | float) for side in (self.a, self.b)):
            return math.inf
        return float(abs(self.a - self.b) / max(abs(self.a), abs(self.b)))


@dataclass(frozen=True)
class TableDifference:
    """A table of two results: how many rows they have in common, and which differ."""

    table: str
    n_rows: int
    """Rows that both have."""
    only_a: list[Difference]
    only_b: list[Difference]
    different: list[Difference]
    """Rows of both, the farthest apart first."""

    @property
    def is_equal(self) -> bool:
        return not (self.only_a or self.only_b or self.different)


def compare(a: Path, b: Path) -> list[TableDifference]:
    """Each table of two results folders beside its counterpart.

    Raises:
        ConfigError: one of them has no tables.
    """
    tables = [_tables(folder) for folder in (a, b)]
    names = dict.fromkeys([*tables[0], *tables[1]])
    return [_compared(name, *(own.get(name, pd.DataFrame()) for own in tables)) for name in names]


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    if damage := table_damage(folder / "tables"):
        raise ConfigError(f"compare: {damage}. `harness run` writes it again.")
    paths = sorted((folder / "tables").glob("*.parquet"))
    if not paths:
        raise ConfigError(
            f"compare: {folder / 'tables'} has no tables. Name a results folder, or a suite that has run."
        )
    return {path.stem: _read(path) for path in paths if path.stem != "verdicts"}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:  # of an earlier version, without a checksum
        raise ConfigError(f"compare: {path} can't be read: {error}. `harness run` writes it again.") from None


def _compared(name: str, a: pd.DataFrame, b: pd.DataFrame) -> TableDifference:
    rows_a, rows_b = _rows(a), _rows(b)
    both = [key for key in rows_a if key in rows_b]
    different = [found for key in both if (found := _difference(key, rows_a[key], rows_b[key]))]
    only_a = [
        Difference(_what(key), "", found.get("value"), None) for key, found in rows_a.items() if key not in rows_b
    ]
    only_b = [
        Difference(_what(key), "", None, found.get("value")) for key, found in rows_b.items() if key not in rows_a
    ]
    return TableDifference(name, len(both), only_a, only_b, sorted(different, key=lambda found: -found.relative))


_Key = tuple[tuple[str, Any], ...]


def _rows(table: pd.DataFrame) -> dict[_Key, dict[str, Any]]:
    """Rows by what they are about; of several about one thing each has its number."""
    found: dict[_Key, dict[str, Any]] = {}
    plain = table.astype(object).where(table.notna(), None)
    for line in plain.to_dict("records"):
        what = tuple((str(name), value) for name, value in line.items() if name not in (*_OF_RUN, *_FOUND))
        number = 0
        while (key := (*what, ("row", number))) in found:
            number += 1
        is_measured = any(fnmatchcase(str(line.get("metric")), name) for name in _MEASURED)
        found[key] = {name: line.get(name) for name in _FOUND if not (is_measured and name == "value")}
    return found


def _difference(key: _Key, a: Mapping[str, Any], b: Mapping[str, Any]) -> Difference | None:
    for column in a:
        if a[column] != b[column]:
            return Difference(_what(key), column, a[column], b[column])
    return None


def _what(key: _Key) -> dict[str, Any]:
    return {name: value for name, value in key if value is not None and (name, value) != ("row", 0)}
