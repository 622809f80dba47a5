"""Similarity: compare two representations on the rows they share, or two decompositions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.activation_store import StoredActivations, masked_rows
from harness.activations import BLOCK_ROWS
from harness.cells import Cell
from harness.decomposition import load
from harness.errors import Undefined
from harness.session import Session, row
from harness.store import require

_NULL_SEED = 0


def run(cells: list[Cell], session: Session) -> None:
    """All metrics of one pair."""
    task = cells[0].task
    is_pair_of_fits = "fit" in task["a"]
    pair = None if is_pair_of_fits else _Pair(task, session)
    for cell in cells:
        try:
            metric = session.create("similarity", cell.task["similarity"])
            rows = _of_decompositions(metric, task, session) if pair is None else pair.rows(metric)
            session.done(cell, rows)
        except Exception as error:  # a plugin's own code; it costs this cell alone
            session.fail_now(cell, error)


def _of_decompositions(metric: Any, task: Any, session: Session) -> list[dict[str, Any]]:
    a, b = (load(require(session.store, "fit", task[side]["fit"])[0], session.device) for side in "ab")
    n = min(a.n_candidates or 0, b.n_candidates or 0)
    rows = [_value(metric, "similarity", n, lambda: metric(a, b))]
    for name in ("overlap", "chance"):
        if hasattr(metric, name):
            rows.append(_value(metric, name, n, lambda name=name: getattr(metric, name)(a, b)))  # type: ignore[misc]
    return rows


class _Pair:
    """The evaluation rows that two places share, in the order of the first."""

    def __init__(self, task: Any, session: Session) -> None:
        self.device = session.device
        self.a, kept_a = _side(task["a"], session)
        self.b, kept_b = _side(task["b"], session)
        same_tokenizer = self.a.manifest["tokenizer_hash"] == self.b.manifest["tokenizer_hash"]
        columns = ["document", "window", "position"] if same_tokenizer else ["document", "end"]
        self.index_a, self.index_b = align(self.a.rows.loc[kept_a, columns], self.b.rows.loc[kept_b, columns])
        self.shares = {
            "kept_share_a": len(self.index_a) / self.a.n_rows,
            "kept_share_b": len(self.index_b) / self.b.n_rows,
        }

    def rows(self, metric: Any) -> list[dict[str, Any]]:
        n = len(self.index_a)
        shuffled = self.index_b[torch.randperm(n, generator=torch.Generator().manual_seed(_NULL_SEED))]
        return [
            _value(metric, "similarity", n, lambda: self.compare(metric, self.index_b)),
            _value(metric, "null_shuffled_rows", n, lambda: self.compare(metric, shuffled)),
            *(row("similarity", name, share, n, None) for name, share in self.shares.items()),
        ]

    def compare(self, metric: Any, index_b: Tensor) -> float:
        if not len(index_b):
            raise Undefined("the two sides share no rows")
        if not metric.streams:
            return float(metric(self.take(self.a, self.index_a), self.take(self.b, index_b)))
        metric.reset()
        for start in range(0, len(index_b), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            metric.update(self.take(self.a, self.index_a[part]), self.take(self.b, index_b[part]))
        return float(metric.compute())

    def take(self, side: StoredActivations, index: Tensor) -> Tensor:
        return side.take(index).to(self.device)


def align(a: pd.DataFrame, b: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Places (by index label) of the rows that two tables share, in the order of the first.

    Where several tokens of one side end at the same character, the last is taken: it has seen all the others.
    """
    columns = list(a.columns)
    sides = [
        side.dropna().drop_duplicates(keep="last").assign(**{f"place_{name}": lambda t: t.index})
        for name, side in (("a", a), ("b", b))
    ]
    shared = sides[0].merge(sides[1], on=columns, how="inner").sort_values("place_a")
    place_a, place_b = (torch.tensor(shared[f"place_{name}"].to_numpy()) for name in "ab")
    return place_a, place_b


def _side(side: Any, session: Session) -> tuple[StoredActivations, Any]:
    activations = StoredActivations(*require(session.store, "capture", side["capture"]))
    fit = StoredActivations(*require(session.store, "capture", side["fit_capture"]))
    return activations, (~masked_rows(activations, fit, side["max_norm_multiple"])).numpy()


def _value(metric: Any, name: str, n: int, compute: Callable[[], float]) -> dict[str, Any]:
    value: float | None = None
    try:
        value = compute()
        reason = None if math.isfinite(value) else f"the metric returned {value}"
    except Undefined as undefined:
        reason = undefined.reason
    return row("similarity", name, None if reason else value, n, metric.higher_is_more_similar, reason)
