"""The units that are understood best, chosen on one half of their test windows and shown by the other.

Of many units the best look better than they are: some of them are good and all of them are lucky, and the mean of the
best is too high on the windows by which they were chosen (the winner's curse). So the test windows of each unit are cut
into two halves, no document in both. The K units with the largest score on the one half are chosen, and their mean on
the other is reported: there they have no luck but what they would have on any windows.

A score is made of a scorer's verdicts on the windows of a half: the AUROC of their scores against their labels (ties
count half) where all of the unit's have one, else the share that is right, on both halves alike. A unit with a half
that lacks either label is left out. The interval of the fresh half's mean is Student's, over the chosen units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.store import Store
from harness.tables.interpretability import FIT, SCORER
from harness.tables.verdicts import read_cell

_COLUMNS = (*FIT, "seed", *SCORER)


@dataclass(frozen=True)
class HalvedUnit:
    """The scores of one unit on the two halves of its test windows."""

    latent: int
    sign: int
    choosing: float
    fresh: float


def top_units(plan: Plan, store: Store, n_top: int) -> pd.DataFrame:
    """A line for each scored decomposition and scorer that gives verdicts: the mean of the chosen units on the half by
    which they were chosen (`choosing_half`), on the other (`value`, `low`, `high`), and that of all units there.
    """
    lines = []
    for cell in plan.of_kind("scoring"):
        record = store.end(cell.key)
        if record is not None and record.status == "done" and (units := _units(read_cell(store, cell.key))):
            lines.append(_line(cell, units, n_top))
    return pd.DataFrame(lines)


def _line(cell: Cell, units: Sequence[HalvedUnit], n_top: int) -> dict[str, Any]:
    chosen = choose(units, n_top)
    fresh = np.array([unit.fresh for unit in chosen])
    low, high = _interval(fresh)
    return {
        **{name: cell.columns[name] for name in _COLUMNS},
        "value": float(fresh.mean()),
        **{"low": low, "high": high},
        "choosing_half": float(np.mean([unit.choosing for unit in chosen])),
        "all_units": float(np.mean([unit.fresh for unit in units])),
        **{"n_top": len(chosen), "n_units": len(units)},
        "units": [vars(unit) for unit in chosen],
    }


def choose(units: Sequence[HalvedUnit], n_top: int) -> list[HalvedUnit]:
    """The units that score best on the choosing half, the best first; of equals those of the lowest number."""
    return sorted(units, key=lambda unit: (-unit.choosing, unit.latent, -unit.sign))[:n_top]


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean; none of fewer than two values, or of equal ones."""
    if len(values) < 2 or not values.std():
        return None, None
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()) - half, float(values.mean()) + half


def _units(verdicts: Sequence[Mapping[str, Any]]) -> list[HalvedUnit]:
    of_unit: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for verdict in verdicts:
        of_unit.setdefault((verdict["latent"], verdict["sign"]), []).append(verdict)
    found = []
    for (latent, sign), own in of_unit.items():
        by_score = all(verdict["score"] is not None for verdict in own)
        scores = [_score(half, by_score) for half in halves(own)]
        if None not in scores:
            found.append(HalvedUnit(latent, sign, *scores))  # type: ignore[arg-type]  # none is None
    return found


def halves(verdicts: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The verdicts on two halves of the windows: documents go to one or the other in turn, active ones first."""
    documents = dict.fromkeys(own["document"] for own in sorted(verdicts, key=lambda own: not own["label"]))
    place = {document: number % 2 for number, document in enumerate(documents)}
    first, second = ([own for own in verdicts if place[own["document"]] == half] for half in (0, 1))
    return first, second


def _score(verdicts: Sequence[Mapping[str, Any]], by_score: bool) -> float | None:
    """The AUROC of the verdicts' scores, or the share that is right; None if a label is lacking, or all answers are."""
    labels = np.array([own["label"] for own in verdicts], dtype=bool)
    if not labels.any() or labels.all():
        return None
    if by_score:
        ranks = scipy.stats.rankdata([own["score"] for own in verdicts])
        n_active = int(labels.sum())
        rank_sum = float(ranks[labels].sum()) - n_active * (n_active + 1) / 2
        return rank_sum / (n_active * (len(labels) - n_active))
    said = [own["says"] == own["label"] for own in verdicts if own["says"] is not None]
    return float(np.mean(said)) if said else None
