"""Gaps in the results and their reasons, for people: cells that failed or were skipped, and metrics without a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.planning.plan import Plan
from harness.storage.records import UPSTREAM_FAILED
from harness.views.view import Column, Item, Line, View, known

_MAX_NAMED = 2
"""Names shown before a list has to be opened."""
_COUNT = "{:,.0f}".format


def failure_view(tables: Mapping[str, pd.DataFrame], plan: Plan) -> View:
    """A table of cells without numbers, grouped by their reason."""
    columns = [Column("state"), Column("why"), Column("cells", write=_COUNT), Column("which")]
    rows = []
    lines = pd.concat([table[table["status"].isin(["failed", "skipped"])] for table in tables.values()])
    lines = lines.fillna({"error": ""}).sort_values("status", kind="stable")  # what failed comes first
    for (status, reason), found in lines.groupby(["status", "error"], sort=False):
        why = known(str(reason).removeprefix(f"{UPSTREAM_FAILED}: "))
        # One cause skips many cells of a method, so these are named by place; a failed cell has a name of its own.
        failed = [plan.cells[key].label for key in found["cell"]] if status == "failed" else None
        which = _listed(failed if failed is not None else _places(found))
        rows.append([Item(str(status)), Item(why), Item(len(found)), which])
    return View("Cells without numbers", columns, rows)


def undefined_view(tables: Mapping[str, pd.DataFrame]) -> View:
    """A table of metrics without a value, grouped by their reason."""
    lines = pd.concat([table[table["status"] == "undefined"].assign(table=name) for name, table in tables.items()])
    rows = [
        [*(Item(known(part)) for part in key), Item(len(found)), _listed(_places(found))]
        for key, found in lines.groupby(["table", "metric", "error"], sort=False, dropna=False)
    ]
    columns = [*map(Column, ("table", "metric", "why")), Column("times", write=_COUNT), Column("of which")]
    return View("Metrics without a value", columns, rows)


def _places(lines: pd.DataFrame) -> list[str]:
    """The fits, sites or pairs of sites that lines are about, each once."""
    keys = ["method", "method_config", "method_label", "model", "site", "model_b", "site_b", "fit_tokens"]
    return [_place(line) for line in lines.reindex(columns=keys).drop_duplicates().to_dict("records")]


def _place(line: Line) -> str:
    method: str = "" if pd.isna(line["method"]) else f"{line['method_label']} on "
    sides = [f"{line[f'model{side}']} {line[f'site{side}']}" for side in ("", "_b") if pd.notna(line[f"model{side}"])]
    tokens: str = "" if pd.isna(line["fit_tokens"]) else f", {line['fit_tokens']:,} tokens"
    return method + " and ".join(sides) + tokens


def _listed(names: Sequence[str]) -> Item:
    """An item with the first names, which opens to show all of them."""
    if len(names) <= _MAX_NAMED:
        return Item(known("; ".join(names)))
    first = "; ".join(names[:_MAX_NAMED])
    return Item(f"{first}; and {len(names) - _MAX_NAMED:,} more", more=tuple(names))
