"""The cost of rows that are not stored: the tokens that models read again for it, and the disk that it saves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from harness.capturing.chunks import chunk_windows
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.sae.schedule import n_passes
from harness.storage.states import State
from harness.storage.store import Store
from harness.storage.unstored import IDENTITY_BYTES, has_rows

_CHARACTERS_PER_ROW = 3
"""Fewer than tokens have on average in most texts, so that plans do not promise too much."""


@dataclass(frozen=True)
class Reading:
    """The tokens that one model reads again for the fits of one pass, at most."""

    model: str
    n_tokens: int


def read_again(plan: Plan, states: Mapping[str, State], store: Store, bytes_of: Mapping[str, int]) -> list[Reading]:
    """Readings of texts that fits need whose rows are not stored.

    Args:
        plan: the plan.
        states: of its cells.
        store: says whether the rows of a capture are stored after all.
        bytes_of: what the rows of a capture take, by its key, where that is known.
    """
    fits: dict[str, list[Cell]] = defaultdict(list)
    for key, state in states.items():
        cell = plan.cells[key]
        if cell.kind == "fit" and state.is_todo and "source" in cell.work and not _are_stored(cell, store):
            fits[cell.group].append(cell)
    return [_reading(cells, bytes_of) for cells in fits.values()]


def _are_stored(fit: Cell, store: Store) -> bool:
    manifest = store.manifest("capture", fit.work["capture"])
    return manifest is not None and has_rows(manifest)


def _reading(cells: list[Cell], bytes_of: Mapping[str, int]) -> Reading:
    """The tokens of a pass times its readings: one for the mean, which some methods ask for, and one a pass over the
    rows; each as often as the rows that wait for their turn are more than there is memory for.
    """
    source = cells[0].work["source"]
    n_tokens = int(source["tokens"])
    streams = {(cell.work["capture"], cell.work["seed"]) for cell in cells}
    n_bytes = sum(bytes_of.get(capture, 0) for capture, _ in streams)
    max_bytes = source["max_held_gb"] * 1e9
    n_times = max(1, ceil(n_bytes / max_bytes))
    if (within := cells[0].work.get("shuffle_characters")) is not None:
        # Half of the rows that others are moved behind wait, beside those that have just come.
        n_waiting = within / 2 / _CHARACTERS_PER_ROW + chunk_windows(n_tokens, source["context"]) * source["context"]
        n_times = 1 if n_bytes * n_waiting / n_tokens <= max_bytes else n_times
    n_readings = n_times * (1 + max(_passes(cell, n_tokens) for cell in cells))
    return Reading(str(cells[0].columns["model"]), n_tokens * n_readings)


def _passes(cell: Cell, n_tokens: int) -> int:
    """The passes of a method: its parameter of that name says it, where it has one."""
    params = cell.work["method"]["params"]
    return n_passes(n_tokens, params["passes"]) if "passes" in params else 1


def saved_bytes(captures: Iterable[Cell], bytes_of: Mapping[str, int]) -> int:
    """The disk that captures would take, beyond what is kept of them, whose rows are not to be stored."""
    unstored = [cell for cell in captures if not cell.work.get("store_rows", True) and cell.key in bytes_of]
    return sum(bytes_of[cell.key] - int(cell.work["tokens"]) * IDENTITY_BYTES for cell in unstored)
