"""Two results beside each other, for people: how many rows of each table differ, and which do most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.tables.equality import Difference, TableDifference
from harness.views.view import Column, Item, View

_COUNT = "{:,.0f}".format
_MAX_SHOWN = 20
_PLACE = (
    "model",
    "site",
    "model_b",
    "site_b",
    "method_label",
    "similarity_label",
    "scorer_label",
    "task_label",
    "seed",
)


def equality_views(tables: Sequence[TableDifference]) -> Iterator[View]:
    """The number of rows that differ by table; then those that differ most."""
    counts = [Column(heading, write=_COUNT) for heading in ("rows of both", "differ", "only in A", "only in B")]
    numbers = [[table.n_rows, *map(len, (table.different, table.only_a, table.only_b))] for table in tables]
    rows = [[Item(table.table), *map(Item, own)] for table, own in zip(tables, numbers, strict=True)]
    yield View("A beside B", [Column("table"), *counts], rows)
    found = [(table.table, one) for table in tables for one in (*table.different, *table.only_a, *table.only_b)]
    if found:
        columns = [
            *map(Column, ("table", "metric", "of", "column", "A", "B")),
            Column("apart by", write="{:.2g}".format),
        ]
        shown = [_row(table, one) for table, one in sorted(found, key=lambda own: -own[1].relative)[:_MAX_SHOWN]]
        left_out = len(found) - len(shown)
        notes = (f"and {left_out:,} more; --json has all",) if left_out else ()
        yield View("Where they differ", columns, shown, notes)


def _row(table: str, one: Difference) -> list[Item]:
    place = ", ".join(str(one.what[name]) for name in _PLACE if name in one.what)
    apart = one.relative if one.relative != float("inf") else None
    column = one.column or "is there once"
    about = (table, str(one.what.get("metric", "")), place, column)
    return [*map(Item, about), Item(_written(one.a)), Item(_written(one.b)), Item(apart)]


def _written(side: Any) -> str | None:
    return None if side is None else f"{side:.12g}" if isinstance(side, float) else str(side)
