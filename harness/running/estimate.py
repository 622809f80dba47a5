"""Estimates of what a plan will cost: costs of its cells on this machine, or on one of which there is a rate card.

Where cells of a kind and plugin have run here, theirs is the say: how many times as long as estimated they took.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import ConfigError, StoreError
from harness.files import read_json, write_json
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.planning.suite import SuiteConfig
from harness.running.costs import Cost, Costs, name, of_run
from harness.running.machine import Machine, rate_card, rate_cards, this_machine
from harness.running.readings import Reading, read_again, saved_bytes
from harness.storage.states import State
from harness.storage.store import ARTEFACT_KINDS, Store
from harness.storage.unstored import IDENTITY_BYTES

_TIMINGS = "timings.json"
_FACTORS = "factors"
_PRIOR_SECONDS = 1.0
"""Seconds for which the estimate itself counts beside what was measured: cells of milliseconds say little."""
PROCESS_BYTES = 700_000_000
"""Main memory of a worker with its libraries."""
Origin = Literal["measured", "calibrated", "shipped"]


@dataclass(frozen=True)
class Estimate:
    """Totals over the cells that are to do."""

    n_tokens: int
    """Tokens that models will read; the sites of one pass share them."""
    n_tokens_again: int
    """Tokens of those that are read again, at most, since rows for fitting are not stored."""
    activation_bytes: int
    """Bytes of captures on disk."""
    disk_bytes: int
    """Bytes of all that cells store."""
    saved_bytes: int
    """Bytes on disk that captures would take, beyond what is kept of them, whose rows are not stored."""
    model_bytes: int
    """Bytes of models that are made or fetched when they are first used, wherever they may be there already."""
    n_unknown_disk: int
    """Captures of unknown size: the width of their model is not known before it is loaded."""
    seconds: float
    n_unknown_seconds: int
    """Cells of unknown duration: the width of their model is not known."""
    memory_bytes: int
    """Main memory of a worker at its peak."""
    card_bytes: int | None
    """Memory of the card at its peak; None without one."""
    card_has_bytes: int | None
    """Memory that the card has, if its rate card says so."""
    machine: str
    seconds_by_origin: dict[str, float] = field(default_factory=dict)
    """The seconds by what they rest on: `measured` on this machine in earlier runs, `calibrated`, which is the shipped
    efficiency of a kind of cell on this machine as it was tried out, or `shipped` rates of a rate card."""


def estimate(plan: Plan, states: Mapping[str, State], store: Store) -> Estimate:
    """Estimate the cost of the cells that a run would do."""
    todo = [plan.cells[key] for key, state in states.items() if state.is_todo]
    rates = _Rates.of(plan.suite.config.device, store, is_needed=bool(todo))
    costs = dict(_costs(todo, plan))
    known = {key: cost for key, cost in costs.items() if cost is not None}
    seconds: dict[str, float] = defaultdict(float)
    for key, cost in known.items():
        duration, origin = rates.seconds(cost, name(plan.cells[key]))
        seconds[origin] += duration
    if todo:
        duration, origin = rates.seconds(of_run(len(plan.cells)), "run")
        seconds[origin] += duration
    captures = [cell for cell in todo if cell.kind == "capture"]
    sizes = {cell.key: round(own.disk_bytes) for cell in plan.of_kind("capture") if (own := _by_itself(cell, plan))}
    again = read_again(plan, states, store, sizes)
    for reading in again:
        duration, origin = _seconds_of(reading, plan, rates)
        seconds[origin] += duration
    disk = {key: cost.disk_bytes for key, cost in known.items()}
    disk |= {cell.key: cell.work["tokens"] * IDENTITY_BYTES for cell in captures if _is_unstored(cell)}
    peak = _peak_memory(todo, known)
    is_card = rates.kind not in ("cpu", "") or rates.machine.card_bytes is not None
    n_again = sum(reading.n_tokens for reading in again)
    return Estimate(
        n_tokens=sum({cell.group: int(cell.work["tokens"]) for cell in captures}.values()) + n_again,
        n_tokens_again=n_again,
        activation_bytes=round(sum(disk.get(cell.key, 0.0) for cell in captures)),
        disk_bytes=round(sum(disk.values())),
        saved_bytes=saved_bytes(captures, sizes),
        model_bytes=round(_of_models(captures, plan)),
        n_unknown_disk=sum(cell.key not in disk for cell in captures),
        seconds=sum(seconds.values()),
        n_unknown_seconds=len(todo) - len(known),
        memory_bytes=round(PROCESS_BYTES + peak) if todo else 0,
        card_bytes=round(peak) if is_card else None,
        card_has_bytes=rates.machine.card_bytes,
        machine=rates.machine.name,
        seconds_by_origin=dict(seconds),
    )


def seconds_per_cell(plan: Plan, store: Store) -> Callable[[Cell], float]:
    """A function that gives the expected seconds of a cell, the first of a group with what all share.

    It is 1 where nothing is known.
    """
    rates = _Rates.of(plan.suite.config.device, store)
    costs = dict(_costs(plan.cells.values(), plan))

    def seconds(cell: Cell) -> float:
        cost = costs[cell.key]
        return 1.0 if cost is None else rates.seconds(cost, name(cell))[0]

    return seconds


def stored_bytes(cells: Iterable[Cell], store: Store) -> int:
    """The bytes of what cells have left in the store."""
    manifests = [store.manifest(cell.kind, cell.key) for cell in cells if cell.kind in ARTEFACT_KINDS]
    return sum(file["bytes"] for manifest in manifests if manifest for file in manifest["files"].values())


def check_budget(costs: Estimate, config: SuiteConfig) -> None:
    """Refuse, before any work, a run whose activations are known not to fit into `max_disk_gb`."""
    if costs.activation_bytes > config.max_disk_gb * 1e9:
        raise ConfigError(
            f"max_disk_gb: the activations need {costs.activation_bytes / 1e9:.3g} GB, max_disk_gb is "
            f"{config.max_disk_gb}. Raise it, ask for fewer tokens or sites, or keep no rows that methods learn from: "
            "store_rows=false."
        )


def remember_timings(cells: Iterable[Cell], plan: Plan, store: Store) -> None:
    """Store how long the cells just done took beside what was estimated, for the estimates of later plans."""
    taken: dict[str, float] = defaultdict(lambda: _PRIOR_SECONDS)
    estimated: dict[str, float] = defaultdict(lambda: _PRIOR_SECONDS)
    done = {cell.key: record for cell in cells if (record := store.record(cell.key)) and record.status == "done"}
    if not done:
        return
    machine, costs = this_machine(store.cache), Costs(plan)
    for key, cost in _costs([plan.cells[key] for key in done], plan):
        cell, record = plan.cells[key], done[key]
        own = [row["value"] for row in record.rows if row["metric"] == "fit_seconds"]
        # A learner's own time is without that of the stream.
        cost, seconds = (costs.of(cell, is_first=False), own[0]) if own else (cost, record.seconds)
        if cost is not None and seconds is not None:
            timing = f"{_kind(str(record.provenance.get('device', 'cpu')))}/{name(cell)}"
            taken[timing] += seconds
            estimated[timing] += _seconds(cost, machine)
    factors = {timing: taken[timing] / estimated[timing] for timing in taken}
    with suppress(StoreError):  # a cache that can't be written: later plans are told the same as this one
        write_json(store.cache / _TIMINGS, {_FACTORS: _factors(store) | factors})


@dataclass(frozen=True)
class _Rates:
    """The rates of the machine that a suite names, and how they fared where cells have run on it."""

    machine: Machine
    kind: str
    """`cpu` or `cuda`; empty for a machine that is not here."""
    factors: Mapping[str, float]

    @classmethod
    def of(cls, device: str, store: Store, *, is_needed: bool = True) -> _Rates:
        if device in rate_cards():
            return cls(rate_card(device), "", {})
        factors = _factors(store)
        kind = _kind(device)
        if kind == "auto":
            kind = next((kind for kind in ("cuda", "mps") if any(timing.startswith(kind) for timing in factors)), "cpu")
        return cls(this_machine(store.cache) if is_needed else Machine(1, 1, 1, 1), kind, factors)

    def seconds(self, cost: Cost, name: str) -> tuple[float, Origin]:
        factor = self.factors.get(f"{self.kind}/{name}")
        seconds = _seconds(cost, self.machine)
        return (seconds, self.machine.origin) if factor is None else (seconds * factor, "measured")


def _costs(cells: Iterable[Cell], plan: Plan) -> Iterable[tuple[str, Cost | None]]:
    costs, groups = Costs(plan), set()
    for cell in cells:
        group = name(cell), cell.group  # such as all of an evaluation: what one shares, another has no use for
        yield cell.key, costs.of(cell, is_first=group not in groups)
        groups.add(group)


def _peak_memory(cells: Iterable[Cell], costs: Mapping[str, Cost]) -> float:
    """The most bytes that a group holds: learners of one stream hold theirs together, other cells one by one."""
    held: dict[tuple[str, str], list[float]] = defaultdict(list)
    for cell in cells:
        if cell.key in costs:
            held[cell.kind, cell.group].append(costs[cell.key].memory_bytes)
    return max((sum(own) if kind == "fit" else max(own) for (kind, _), own in held.items()), default=0.0)


def _seconds(cost: Cost, machine: Machine) -> float:
    return (
        cost.flops / machine.flops
        + cost.memory_traffic / machine.memory_bytes_per_second
        + cost.steps / machine.steps
        + cost.disk_bytes / machine.disk_bytes_per_second
    )


def _of_models(captures: Iterable[Cell], plan: Plan) -> float:
    """Bytes of the models that captures run."""
    labels = {cell.columns["model"] for cell in captures}
    return sum(Costs(plan).of_model(model) for model in plan.suite.models if model.label in labels)


def _by_itself(cell: Cell, plan: Plan) -> Cost | None:
    return Costs(plan).of(cell, is_first=True)


def _is_unstored(cell: Cell) -> bool:
    return not cell.work.get("store_rows", True)


def _seconds_of(reading: Reading, plan: Plan, rates: _Rates) -> tuple[float, Origin]:
    """Seconds for which a model reads texts again: in proportion to those of its capture."""
    cell = next(cell for cell in plan.of_kind("capture") if cell.columns["model"] == reading.model)
    cost = _by_itself(cell, plan)
    if cost is None:
        return 0.0, rates.machine.origin
    seconds, origin = rates.seconds(cost, name(cell))
    return seconds * reading.n_tokens / int(cell.work["tokens"]), origin


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _factors(store: Store) -> dict[str, float]:
    found = read_json(store.cache / _TIMINGS).get(_FACTORS)
    known = found.items() if isinstance(found, dict) else ()
    return {name: factor for name, factor in known if isinstance(factor, int | float) and 0 < factor < math.inf}
