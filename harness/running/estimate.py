"""Estimates of what a plan will cost: tokens and disk from the plan, time from the cells of earlier runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.files import write_json
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.planning.suite import SuiteConfig
from harness.storage.states import State
from harness.storage.store import Store

_BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
_TIMINGS = "timings.json"
_SECONDS_PER_TOKEN = 1e-4
"""The rate of cells where none is known: only in proportion to each other do these count."""


@dataclass(frozen=True)
class Estimate:
    """Totals over the cells that are to do."""

    n_tokens: int
    """Tokens that models will read; the sites of one pass share them."""
    disk_bytes: int
    n_unknown_disk: int
    """Captures of unknown size: the width of their model is not known before it is loaded."""
    seconds: float
    n_unknown_seconds: int
    """Cells of unknown duration: none like them has run on this machine yet."""


def estimate(plan: Plan, states: Mapping[str, State], store: Store) -> Estimate:
    """Estimate the cost of the cells that a run would do."""
    todo = [plan.cells[key] for key, state in states.items() if state.is_todo]
    captures = [cell for cell in todo if cell.kind == "capture"]
    passes = {cell.group: int(cell.work["tokens"]) for cell in captures}
    disk = [_disk_bytes(cell, plan) for cell in captures]
    rates = _read(store)
    seconds = [rates[name] * _tokens(cell, plan) for cell in todo if (name := _timing(cell)) in rates]
    return Estimate(
        n_tokens=sum(passes.values()),
        disk_bytes=sum(size for size in disk if size is not None),
        n_unknown_disk=sum(size is None for size in disk),
        seconds=sum(seconds),
        n_unknown_seconds=len(todo) - len(seconds),
    )


def seconds_per_cell(plan: Plan, store: Store) -> Callable[[Cell], float]:
    """A function that gives the expected seconds of a cell: by what was measured here, or as others of its plan."""
    rates = _read(store)
    usual = sum(rates.values()) / len(rates) if rates else _SECONDS_PER_TOKEN

    def seconds(cell: Cell) -> float:
        return rates.get(_timing(cell), usual) * _tokens(cell, plan)

    return seconds


def check_budget(costs: Estimate, config: SuiteConfig) -> None:
    """Refuse, before any work, a run whose activations are known not to fit into `max_disk_gb`."""
    if costs.disk_bytes > config.max_disk_gb * 1e9:
        raise ConfigError(
            f"max_disk_gb: the activations need {costs.disk_bytes / 1e9:.3g} GB, max_disk_gb is {config.max_disk_gb}. "
            "Raise it, or ask for fewer tokens or sites."
        )


def remember_timings(cells: Iterable[Cell], plan: Plan, store: Store) -> None:
    """Store the seconds per token of the cells just done, for the estimates of later plans."""
    seconds: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    for cell in cells:
        record = store.record(cell.key)
        if record is None or record.status != "done" or record.seconds is None:
            continue
        own = [row["value"] for row in record.rows if row["metric"] == "fit_seconds"]
        seconds[_timing(cell)] += own[0] if own else record.seconds
        tokens[_timing(cell)] += _tokens(cell, plan)
    rates = {name: seconds[name] / tokens[name] for name in seconds}
    if rates:
        write_json(store.cache / _TIMINGS, _read(store) | rates)


def _timing(cell: Cell) -> str:
    """The name under which a cell's time is remembered; cells with one name take about equally long per token."""
    own = {"capture": "model", "scoring": "scorer", **{kind: kind for kind in ("similarity", "task")}}
    what = {**own, "explanation": "explainer"}.get(cell.kind, "method")
    return f"{cell.kind}/{cell.columns[what]}"


def _tokens(cell: Cell, plan: Plan) -> int:
    return int(
        cell.work.get("tokens")
        or (cell.kind == "fit" and cell.columns["fit_tokens"])
        or (cell.kind in ("latents", "explanation", "scoring") and plan.suite.config.tokens.interp)
        or plan.suite.config.tokens.evaluation
    )


def _disk_bytes(cell: Cell, plan: Plan) -> int | None:
    model = next(model for model in plan.suite.models if model.label == cell.columns["model"])
    if not model.shape:
        return None
    n_values = int(cell.work["tokens"]) * model.shape["width"]
    return n_values * _BYTES_PER_VALUE[str(model.entry.params.get("dtype", "float32"))]


def _read(store: Store) -> dict[str, float]:
    try:
        return dict(json.loads((store.cache / _TIMINGS).read_text()))
    except (FileNotFoundError, ValueError):
        return {}
