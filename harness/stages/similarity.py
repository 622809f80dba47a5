"""Similarity: compare two representations on the rows they share, or two decompositions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.activation_store import StoredActivations, masked_rows
from harness.activations import BLOCK_ROWS
from harness.cells import Cell
from harness.decomposition import load
from harness.errors import Undefined
from harness.isolation import isolated
from harness.session import Session, row
from harness.store import require

_NULL_SEED = 0


def run(cells: list[Cell], session: Session) -> None:
    """All metrics of one pair."""
    task = cells[0].task
    is_pair_of_fits = "fit" in task["a"]
    pair = None if is_pair_of_fits else _Pair(task, session)
    for cell in cells:
        with session.alone(cell):
            metric = session.create("similarity", cell.task["similarity"])
            rows = _of_decompositions(metric, task, session) if pair is None else pair.rows(metric)
            session.done(cell, rows)


def _of_decompositions(metric: Any, task: Any, session: Session) -> list[dict[str, Any]]:
    a, b = (load(require(session.store, "fit", task[side]["fit"])[0], session.device) for side in "ab")
    n = min(a.n_candidates or 0, b.n_candidates or 0)
    rows = [_value(metric, "similarity", n, lambda: metric(a, b))]
    for name in ("overlap", "chance"):
        if hasattr(metric, name):
            rows.append(_value(metric, name, n, partial(getattr(metric, name), a, b)))
    return rows


class _Side(NamedTuple):
    """Rows of one place, in the order in which they are compared."""

    activations: StoredActivations
    places: Int[Tensor, " n"]
    device: torch.device

    def rows(self, part: slice = slice(None)) -> Float[Tensor, "b d"]:
        return self.activations.take(self.places[part]).to(self.device)


class _Pair:
    """The evaluation rows that two places share, in the order of the first."""

    def __init__(self, task: Any, session: Session) -> None:
        (a, kept_a), (b, kept_b) = (_unmasked(task[name], session) for name in "ab")
        same_tokenizer = a.manifest["tokenizer_hash"] == b.manifest["tokenizer_hash"]
        columns = ["document", "window", "position"] if same_tokenizer else ["document", "end"]
        index_a, index_b = align(a.rows.loc[kept_a, columns], b.rows.loc[kept_b, columns])
        self.n = len(index_a)
        self.a, self.b = _Side(a, index_a, session.device), _Side(b, index_b, session.device)
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(_NULL_SEED))
        self.shuffled_b = self.b._replace(places=index_b[order])

    def rows(self, metric: Any) -> list[dict[str, Any]]:
        found = [
            _value(metric, "similarity", self.n, lambda: _compare(metric, self.a, self.b)),
            _value(metric, "null_shuffled_rows", self.n, lambda: _compare(metric, self.a, self.shuffled_b)),
        ]
        if not getattr(metric, "symmetric", True):
            found.append(_value(metric, "similarity_reversed", self.n, lambda: _compare(metric, self.b, self.a)))
        kept = {"kept_share_a": self.a, "kept_share_b": self.b}
        return found + [
            row("similarity", name, self.n / side.activations.n_rows, self.n, None) for name, side in kept.items()
        ]


def _compare(metric: Any, one: _Side, other: _Side) -> float:
    if not len(one.places):
        raise Undefined("the two sides share no rows")
    if not getattr(metric, "streams", False):
        return float(metric(one.rows(), other.rows()))
    metric.reset()
    for start in range(0, len(one.places), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        metric.update(one.rows(part), other.rows(part))
    return float(metric.compute())


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


def _unmasked(side: Any, session: Session) -> tuple[StoredActivations, Any]:
    activations = StoredActivations(*require(session.store, "capture", side["capture"]))
    fit = StoredActivations(*require(session.store, "capture", side["fit_capture"]))
    return activations, (~masked_rows(activations, fit, side["max_norm_multiple"])).numpy()


def _value(metric: Any, name: str, n: int, compute: Callable[[], float]) -> dict[str, Any]:
    value: float | None = None
    try:
        with isolated():
            value = compute()
        reason = None if math.isfinite(value) else f"the metric returned {value}"
    except Undefined as undefined:
        reason = undefined.reason
    return row(
        "similarity", name, None if reason else value, n, getattr(metric, "higher_is_more_similar", None), reason
    )
