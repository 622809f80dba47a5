"""The standing of a suite, printed: its cells, what is damaged or differs from the last run, what failed and why."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli import display
from harness.cli.console import ALL_DONE, SOME_FAILED, complain, out

if TYPE_CHECKING:
    from harness.planning.cells import Cell
    from harness.planning.plan import Plan
    from harness.storage.states import Outcome, State
    from harness.storage.store import Store

_MAX_NAMED = 3
_MAX_LISTED = 200
_MAX_WARNINGS = 20


def show_states(plan: Plan, found: dict[str, State]) -> None:
    """Print a table of the cells, those together that stand alike."""
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for key, state in found.items():
        cell = plan.cells[key]
        alike[cell.kind, state.name, state.reason or ""].append(cell.label)
    rows = []
    for (kind, name, reason), labels in alike.items():
        if len(labels) > _MAX_LISTED:
            labels = [f"{len(labels):,} cells, such as {labels[0]}; --json lists all"]
        rows += [[kind, name, label, reason] for label in labels]
    out.print(display.table(f"Suite {plan.suite.config.name}", ["kind", "state", "cell", "why"], rows))


def print_states(plan: Plan, found: dict[str, State], costs: dict[str, Any] | None = None) -> None:
    """Print every cell as JSON."""
    cells = []
    for key, state in found.items():
        cell = plan.cells[key]
        known = {"key": key, "kind": cell.kind, "label": cell.label, "group": cell.group}
        cells.append({**known, "state": state.name, "reason": state.reason})
    print(json.dumps({"suite": plan.suite.config.name, "cells": cells} | ({"to_do": costs} if costs else {}), indent=2))


def say_difference(plan: Plan, store: Store) -> None:
    """Print in what the resolved config differs from that of the last run."""
    from harness.planning.config import differences
    from harness.storage.store import RESOLVED

    stored = store.results / RESOLVED
    if stored.exists():
        for line in differences(stored, plan.suite.config):
            complain(f"differs from {relative(stored)}: {line}")


def name_damaged(store: Store) -> None:
    """Print which records can't be used, and what comes of it."""
    damages = list(store.damaged.values())
    for damage in damages[:_MAX_WARNINGS]:
        complain(f"warning: {damage}. Its cell counts as to do; `harness run` sets the record aside and does it again.")
    if len(damages) > _MAX_WARNINGS:
        complain(f"warning: and {len(damages) - _MAX_WARNINGS:,} more records; `harness status` lists them.")


def summary(plan: Plan, store: Store, ended: Outcome) -> int:
    """Print how a suite stands, what failed and why; return the exit code."""
    counts = ", ".join(f"{n} {name}" for name, n in sorted(ended.counts.items()))
    tables = store.results / "tables"
    where = f"Tables: {relative(tables)}." if tables.exists() else "No tables yet: `harness run` makes them."
    out.print(f"\n{counts}. {where}", highlight=False, soft_wrap=True, markup=False)
    for reason, cells in ended.skipped.items():
        complain(f"skipped {len(cells)}: {_named(cells, plan)}: {reason}")
    for cell, state in ended.failed:
        record = store.end(cell.key)
        log = f" Log: {relative(store.results / record.log)}" if record and record.log else ""
        complain(f"failed: {cell.label}: {state.reason}{log}")
    if ended.skipped and not ended.has_answers:
        complain("nothing that the suite asks could be done: what it rests on was skipped, for the reasons above.")
        return SOME_FAILED
    return SOME_FAILED if ended.failed or ended.counts["to do"] else ALL_DONE


def _named(cells: Sequence[Cell], plan: Plan) -> str:
    """Cells by their labels if they are few, else by their methods."""
    names = [cell.label for cell in cells]
    if len(names) > _MAX_NAMED:
        methods = (plan.suite.label("method", cell.columns) if cell.columns.get("method") else "" for cell in cells)
        names = list(dict.fromkeys(own or name for own, name in zip(methods, names, strict=True)))
    rest = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + rest


def relative(path: Path) -> Path:
    """A path as seen from where the user stands."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
