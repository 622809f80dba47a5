"""Records become tidy tables: one row is a cell and a metric. Tables can be made anew at any time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from harness.files import replacing
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.records import Record
from harness.storage.store import Store
from harness.tables.declared import Declared
from harness.tables.labels import labelled
from harness.tables.sealed_tables import seal_tables

SIDE = ("family", "model", "site", "fit_tokens", "method", "method_config", "trained_at", "seed")
COLUMNS = (
    *("suite", "cell", "status", "error", *SIDE, "split", "metric", "value", "n", "higher_is_better", "note"),
    *("log", "device", "harness_version", "plugin_version", "git_sha", "created_at"),
)
SIMILARITY_COLUMNS = ("similarity", "similarity_config", *(f"{name}_b" for name in SIDE))
_OF_UNIT = ("latent", "sign", "stratum", "weight", "density", "active_share")
_OF_MAIN = ("chance", "lowest", "highest")
INTERP_COLUMNS = ("scorer", "scorer_config", "judge", "explainer", *_OF_UNIT, *_OF_MAIN)
TASK_COLUMNS = ("task", "task_config", "similarity", "similarity_config")
CIRCUIT_COLUMNS = ("behaviour", "behaviour_config", "sites")
TABLES = ("reconstruction", "cost", "similarity", "interp")
_OWN_COLUMNS = {
    **{"similarity": SIMILARITY_COLUMNS, "interp": INTERP_COLUMNS, "tasks": TASK_COLUMNS},
    "circuits": CIRCUIT_COLUMNS,
}
_HOMES = {
    **dict.fromkeys(("capture", "fit"), "cost"),
    **dict.fromkeys(("latents", "explanation", "scoring"), "interp"),
    **{"similarity": "similarity", "task": "tasks", "contrast": "circuits", "circuit": "circuits"},
}
"""The table of each kind of cell but evaluations."""
_MEASURED = ("family", "site", "metric", "value", "n", "higher_is_better", *_OF_UNIT, *_OF_MAIN)
_SUMS = ("documents", "models", "permuted")
"""Parts of rows that boards are made from, and tables don't hold: sums by document or model, values by chance."""
RowsWithSums: TypeAlias = Mapping[str, list[dict[str, Any]]]
"""Rows of records that have any of these, by the key of their cell."""
_TYPES: dict[str, Any] = {
    "value": "float64",
    "higher_is_better": "boolean",
    **dict.fromkeys(("weight", "density", "active_share", *_OF_MAIN), "float64"),
    **dict.fromkeys(("n", "seed", "seed_b", "fit_tokens", "fit_tokens_b", "plugin_version", "latent", "sign"), "Int64"),
}


def read_tables(plan: Plan, store: Store) -> tuple[dict[str, pd.DataFrame], RowsWithSums]:
    """All tables of a plan, in plan order, and the rows of records that hold more than tables do.

    Every record is read once. A cell without a record has no row yet.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    with_sums: dict[str, list[dict[str, Any]]] = {}
    is_better = cache(partial(_is_better, Declared.of(plan.suite)))
    for cell in plan.cells.values():
        record = Record("skipped", error=cell.skipped) if cell.skipped else store.record(cell.key)
        if record is not None:
            for table, row in _rows(cell, record):
                if row.get("higher_is_better") is None and "metric" in row:
                    row["higher_is_better"] = is_better(table, row["metric"])
                rows.setdefault(table, []).append({"suite": plan.suite.config.name, **row})
            if found := [row for row in record.rows if any(row.get(name) for name in _SUMS)]:
                with_sums[cell.key] = found
    return {name: labelled(_frame(name, table), plan.suite) for name, table in rows.items()}, with_sums


def _is_better(declared: Declared, table: str, metric: str) -> bool | None:
    return declared.of_name(table, metric).higher_is_better


def write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write `<table>.parquet` and `<table>.csv`, each of which is whole or left as it was, and their checksums."""
    for name, table in tables.items():
        for suffix, write in (("parquet", table.to_parquet), ("csv", table.to_csv)):
            with replacing(folder / f"{name}.{suffix}") as temporary:
                write(temporary, index=False)
    seal_tables(folder, [f"{name}.{suffix}" for name in tables for suffix in ("parquet", "csv")])


def _rows(cell: Cell, record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    provenance = dict(record.provenance)
    common = {
        "cell": cell.key,
        "status": record.status,
        "error": record.error and f"{record.error_type}: {record.error}" if record.error_type else record.error,
        **cell.columns,
        "log": record.log,
        **{name: provenance.get(name) for name in ("device", "harness_version", "git_sha", "created_at")},
    }
    if record.status != "done":
        yield _home_table(cell), common
    for row in record.rows:
        is_null = row["value"] is None
        note = row["reason"] or record.incomplete
        outcome = {"status": "undefined", "error": row["reason"]} if is_null else {"note": note}
        measured = {name: row[name] for name in _MEASURED if name in row}
        yield row["table"], {**common, **measured, **outcome}


def _home_table(cell: Cell) -> str:
    """The table that lists a cell without numbers: an evaluation's own, or that of the cell's kind."""
    return str(cell.columns["evaluation"]) if cell.kind == "evaluation" else _HOMES[cell.kind]


def _frame(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = [*COLUMNS, *_OWN_COLUMNS.get(name, ())]
    frame = pd.DataFrame(rows, columns=columns)
    for column in columns:
        frame[column] = frame[column].astype(_TYPES.get(column, "string"))
    return frame
