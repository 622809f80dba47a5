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

    Intervals come from how documents differ; where all numbers are counts, they are those of a share.
    """

    numerator: list[float]
    """One number for each document of the context, in its order; 0 where a document adds nothing."""
    denominator: list[float]
    """Numbers in the same order; 0 where a document adds nothing."""


@dataclass(frozen=True)
class TableRow:
    """One metric of one cell."""

    metric: str
    """The name of the metric, which is no column of tables."""
    value: float | None
    """A finite number; None where it can't be computed."""
    n: int
    """The number of items that the value rests on: of rows for most metrics."""
    higher_is_better: bool | None = None
    """Direction that is better; None where neither is, or where the metric's declaration says it."""
    reason: str | None = None
    """The reason why there is no value."""
    documents: DocumentSums | None = None
    """Given for metrics that leaderboards compare; without it a metric gets no interval."""
    verdicts: Sequence[Verdict] = ()
    """The scorer's verdicts on the windows that the metric was made of."""


@dataclass(frozen=True)
class Verdict:
    """The answer of a scorer, or of the judge that it asked, about one test window."""

    window: LatentWindow
    """One of the latent's test windows, random or hard; the harness knows it again by its text and activations."""
    label: bool
    """The right answer: for most scorers whether the window is active."""
    says: bool | None
    """The answer given; None where there was none, and then `reason` says why."""
    score: float | None = None
    """The confidence in True, on the scorer's own scale."""
    shown: str | None = None
    """The text as it was shown, where it is not the window's: with marks, say."""
    reason: str | None = None
    """The reason why there was no answer."""


def checked_rows(found: object, where: str) -> list[TableRow]:
    """The rows that a plugin gives; a PluginError, with `where`, if they are not rows or hold a NaN or infinity."""
    rows = list(found) if isinstance(found, Iterable) else None
    if rows is None or not all(isinstance(row, TableRow) for row in rows):
        raise PluginError(f"{where} returned {found!r:.80}, not TableRows in a list or one by one.")
    for row in rows:
        if row.value is not None and not math.isfinite(row.value):
            raise PluginError(f"{where}: {row.metric} is {row.value}. Give None and a reason.")
    return rows
