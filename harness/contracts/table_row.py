"""Rows of tables, as plugins give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import PluginError

if TYPE_CHECKING:  # `harness plan` asks scorers what they would ask, and does without torch
    from harness.contracts.latent import LatentWindow


@dataclass(frozen=True)
class DocumentSums:
    """A metric as a ratio of sums over documents: its value is Σ numerator / Σ denominator.

    Both lists have one item for each document of the context, in its order (0 and 0 where a document adds nothing).
    Intervals come from drawing documents anew.
    """

    numerator: list[float]
    denominator: list[float]


@dataclass(frozen=True)
class TableRow:
    """One metric of one cell. `value` is None where it can't be computed, and `reason` says why."""

    metric: str
    value: float | None
    n: int
    """What the value rests on: rows for most metrics."""
    higher_is_better: bool | None = None
    reason: str | None = None
    documents: DocumentSums | None = None
    """Given for metrics that leaderboards compare; without it a metric gets no interval."""
    verdicts: Sequence[Verdict] = ()
    """What a scorer said of the windows that the metric was made of."""


@dataclass(frozen=True)
class Verdict:
    """What a scorer, or the judge that it asked, said of one test window."""

    window: LatentWindow
    """One of the latent's test windows, random or hard; the harness knows it again by its text and activations."""
    label: bool
    """What was right to say: for most scorers whether the window is active."""
    says: bool | None
    """What was said; None where there was no answer, and then `reason` says why."""
    score: float | None = None
    """How surely, on the scorer's own scale; larger where True is likelier."""
    shown: str | None = None
    """The text as it was shown, where it is not the window's: with marks, say."""
    reason: str | None = None


def checked_rows(found: object, where: str) -> list[TableRow]:
    """The rows that a plugin gives; a PluginError, with `where`, if they are not rows or hold a NaN or infinity."""
    rows = list(found) if isinstance(found, Iterable) else None
    if rows is None or not all(isinstance(row, TableRow) for row in rows):
        raise PluginError(f"{where} returned {found!r:.80}, not a list of TableRows.")
    for row in rows:
        if row.value is not None and not math.isfinite(row.value):
            raise PluginError(f"{where}: {row.metric} is {row.value}. Give None and a reason.")
    return rows
