"""Random pairings of the rows that two representations share, and what a metric says of them.

Pairing k is drawn for all aligned rows, masked ones too, by k and their number alone: all sites of two models are
paired alike, as a score of many sites needs. Masked rows drop out of it: a row whose partner is masked takes the
partner of that one, and so on. So the rows of a side are the same in every pairing, and whatever depends on one side
alone stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.comparing.calibration import calibrate
from harness.comparing.pairing import Pair
from harness.comparing.values import Steps
from harness.contracts.similarity import Permutable, Similarity
from harness.errors import Undefined
from harness.storage.records import row

_SEED = 0


class Permutations:
    """The rows of a pair, and a number of random pairings of them."""

    def __init__(self, pair: Pair, n_permutations: int) -> None:
        self._pair = pair
        self.n_permutations = n_permutations

    @cached_property
    def sides(self) -> tuple[Float[Tensor, "n d1"], Float[Tensor, "n d2"]]:
        """The rows of both sides; read once for all metrics."""
        return self._pair.take()

    def orders(self) -> Iterator[Int[Tensor, " n"]]:
        """The partner on the other side of each row of the first, pairing by pairing."""
        kept = self._pair.kept().cpu()
        generator = torch.Generator().manual_seed(_SEED)
        for _ in range(self.n_permutations):
            order = among(torch.randperm(len(kept), generator=generator), kept)
            yield order.to(self.sides[1].device)

    def rows(self, metric: Similarity, observed: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Table rows that set a value beside those of random pairings; the first has these, too, as `permuted`.

        Args:
            metric: that the value is by.
            observed: the row of the value, `similarity` or `similarity_reversed`.
        """
        name = str(observed["metric"]).removeprefix("similarity")
        permuted, reason = None, observed["reason"]
        if observed["value"] is not None:
            steps = Steps()
            permuted = steps.step(lambda: [float(value) for value in self._values(metric, name == "_reversed")])
            if isinstance(steps.stopped, Undefined):
                reason = f"with rows paired at random it is undefined: {steps.stopped.reason}"
            elif steps.stopped is not None:
                raise steps.stopped
            elif not all(map(math.isfinite, permuted)):
                permuted, reason = None, "with rows paired at random the metric is not finite"
        return _rows(observed, name, permuted, self.n_permutations, metric, reason)

    def _values(self, metric: Similarity, is_reversed: bool) -> Iterable[float]:
        (x, y), orders = self.sides, self.orders()
        if is_reversed:  # the same pairing, seen from the other side
            x, y, orders = y, x, (order.argsort() for order in orders)
        if isinstance(metric, Permutable):
            return metric.permuted(x, y, orders)
        return (metric(x, y[order]) for order in orders)


def among(order: Int[Tensor, " n"], kept: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
    """The permutation that one of n rows gives of those that are kept, by their numbers among these.

    It is uniform if the other one is: a row's cycle is the same but for the rows that are left out.
    """
    partners = order[kept]
    while (out := ~kept[partners]).any():
        partners = torch.where(out, order[partners], partners)
    number: Tensor = kept.cumsum(0) - 1
    return number[partners]


def _rows(
    observed: Mapping[str, Any],
    name: str,
    permuted: list[float] | None,
    n_permutations: int,
    metric: Similarity,
    reason: str | None,
) -> list[dict[str, Any]]:
    names = [f"{column}{name}" for column in ("p_value", "calibrated", "null_quantile")]
    if permuted is None:
        return [row("similarity", column, None, n_permutations, None, reason) for column in names]
    higher = metric.higher_is_more_similar
    best = float(metric.range[1] if higher else metric.range[0])
    found = calibrate(observed["value"], permuted, higher, best)
    no_score = None if found.score is not None else "the metric has no value that is the most alike"
    rest = {"permuted": permuted, "best": best if math.isfinite(best) else None}
    return [
        row("similarity", names[0], found.p_value, n_permutations, None) | rest,
        row("similarity", names[1], found.score, n_permutations, True, no_score),
        row("similarity", names[2], found.quantile, n_permutations, higher),
    ]
