"""The value of a metric on two representations, in the form that the metric's abilities allow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from harness.comparing.pairing import AlignedRows, Pair
from harness.comparing.sides import SideKey, Sides
from harness.comparing.statistics import Statistics
from harness.comparing.values import SimilarityValue
from harness.contracts.similarity import (
    AnchoredStreaming,
    PerSide,
    SharedStatistics,
    Side,
    Similarity,
    Streaming,
    StreamingPerSide,
)
from harness.errors import PluginError, Undefined


def pair_value(name: str, metric: Similarity, call: str, pair: Pair, sides: Sides) -> PairValue:
    """Make the value in the form for its metric: by the first of its abilities that is asked for here.

    Args:
        name: of the table row.
        metric: for this pair alone.
        call: what the metric was made of; the same for metrics that are.
        pair: the representations.
        sides: what metrics have made of sides.
    """
    row, symmetric = RowOfPair(name, metric.higher_is_more_similar, pair), metric.symmetric
    if isinstance(metric, SharedStatistics):
        return FromStatistics(row, metric)
    if metric.streams:
        if not isinstance(metric, Streaming):
            raise PluginError(
                f"{type(metric).__name__} says streams = True, but lacks one of update, merge, compute and reset. "
                "Write these (see harness.Streaming), or say streams = False."
            )
        return FromBlocks(row, metric, call, sides, symmetric)
    if isinstance(metric, PerSide):
        return FromSides(row, metric, call, sides, symmetric)
    return FromRows(row, metric)


class RowOfPair(NamedTuple):
    """The head of a table row: its metric's name and direction, and the representations."""

    name: str
    higher_is_more_similar: bool
    pair: Pair


class PairValue(SimilarityValue, ABC):
    """The value of a metric on two representations."""

    def __init__(self, row: RowOfPair) -> None:
        super().__init__(row.name, row.pair.n_rows, row.higher_is_more_similar)
        self.pair = row.pair
        if not self.n:
            self.stopped = Undefined("the two sides share no rows")

    @abstractmethod
    def end(self) -> dict[str, Any]:
        """The table row; needs all blocks to have been read."""


class FromStatistics(PairValue):
    """A value computed from shared statistics of the pair."""

    def __init__(self, row: RowOfPair, metric: SharedStatistics) -> None:
        super().__init__(row)
        self.metric = metric
        self.kind = metric.statistics
        self._found: float | Callable[[], float] | None = None

    def compute(self, statistics: Statistics) -> None:
        """Take the statistics of the pair. Metrics that need more than these say so now."""
        self._found = self.step(lambda: self.metric.compute_from(statistics.of(self.pair)))

    def end(self) -> dict[str, Any]:
        return self.row(lambda: self._found() if callable(self._found) else self._found)


class FromRows(PairValue):
    """A value computed from all rows at once."""

    def __init__(self, row: RowOfPair, metric: Similarity) -> None:
        super().__init__(row)
        self.metric = metric

    def end(self) -> dict[str, Any]:
        return self.row(lambda: self.metric(*self.pair.take()))


class _WithSides(PairValue):
    """A value for which things that are made of one side are kept."""

    def __init__(self, row: RowOfPair, call: str, sides: Sides, symmetric: bool) -> None:
        super().__init__(row)
        self._call = call
        self._sides = sides
        self._symmetric = symmetric

    def _key(self, view: AlignedRows, side: Side | None) -> SideKey:
        """The key of what `of_side` gives, or of the anchors, which are those of no side."""
        what = "anchors" if side is None else "of_side"
        return SideKey(what, self._call, view.name, None if self._symmetric else side, self.pair.kept_digest)


class FromSides(_WithSides):
    """A value computed from what the metric makes of all rows of each side."""

    def __init__(self, row: RowOfPair, metric: PerSide, call: str, sides: Sides, symmetric: bool) -> None:
        super().__init__(row, call, sides, symmetric)
        self.metric = metric

    def end(self) -> dict[str, Any]:
        one, other = self.pair.one, self.pair.other
        return self.row(lambda: self.metric.of_sides(self._side("x", one), self._side("y", other)))

    def _side(self, side: Side, view: AlignedRows) -> Any:
        def find() -> Any:
            return self.metric.of_side(side, view.take(self.pair.kept().nonzero().flatten()))

        return self._sides.of(self._key(view, side), find)


class FromBlocks(_WithSides):
    """A value computed from blocks of rows, after the anchors if the metric has any."""

    def __init__(self, row: RowOfPair, metric: Streaming, call: str, sides: Sides, symmetric: bool) -> None:
        super().__init__(row, call, sides, symmetric)
        self.metric = metric
        self.step(self._start)

    def _start(self) -> None:
        self.metric.reset()
        if isinstance(self.metric, AnchoredStreaming):
            places = self.pair.kept().nonzero().flatten()[self.metric.anchor_places(self.n)]
            self.metric.anchors(*(self._anchors(view, places) for view in (self.pair.one, self.pair.other)))

    def _anchors(self, view: AlignedRows, places: Int[Tensor, " a"]) -> Any:
        return self._sides.of(self._key(view, None), lambda: view.take(places))

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], part: slice, of_block: Sides) -> None:
        """Add a block of rows; `of_block` keeps what is made of sides of this block."""
        one, other = self.pair.one, self.pair.other
        kept = self.pair.kept(part)

        def rows_of(view: AlignedRows) -> Tensor:
            of_view = rows[view.name]
            return of_view[kept.to(of_view.device)]

        metric = self.metric
        if not isinstance(metric, StreamingPerSide):
            self.step(lambda: metric.update(rows_of(one), rows_of(other)))
            return

        def side(side: Side, view: AlignedRows) -> Any:
            return of_block.of(self._key(view, side), lambda: metric.of_side(side, rows_of(view)))

        self.step(lambda: metric.update_sides(side("x", one), side("y", other)))

    def end(self) -> dict[str, Any]:
        return self.row(self.metric.compute)
