"""How the value of a similarity comes about: in steps of its plugin's code, of which any may fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.comparing.pairing import Pair, View
from harness.errors import Imprecise, Undefined
from harness.registry.isolation import isolated
from harness.storage.records import row

SIDES_BYTES = 2**30
"""What is kept of single sides; what has no room is found anew."""


class Steps:
    """Runs a plugin's code up to the first step that fails; what that raised is kept for whoever asks for a result."""

    def __init__(self) -> None:
        self.stopped: BaseException | None = None

    def step(self, code: Callable[[], Any]) -> Any:
        """What the code gives; None, without running it, after a step that failed."""
        if self.stopped is not None:
            return None
        try:
            with isolated():
                return code()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit too
            self.stopped = error
            return None


class Value(Steps):
    """A row of the similarity table in the making."""

    def __init__(self, name: str, metric: Any, n: int) -> None:
        super().__init__()
        self.name = name
        self.metric = metric
        self.n = n

    def row(self, last_step: Callable[[], Any]) -> dict[str, Any]:
        """The row with the number that the last step gives; raises what has failed, unless it was an Undefined."""
        value, reason = self.step(lambda: float(last_step())), None
        if isinstance(self.stopped, Undefined):
            reason = self.stopped.reason
        elif self.stopped is not None:
            raise self.stopped
        elif not math.isfinite(value):
            value, reason = None, f"the metric returned {value}"
        return row("similarity", self.name, value, self.n, getattr(self.metric, "higher_is_more_similar", None), reason)


class Statistics(Steps):
    """Sums over many pairs of places at once, made by the class that metrics name as their `statistics`."""

    def __init__(self, kind: Callable[..., Any], pairs: Sequence[Pair]) -> None:
        super().__init__()
        names = {(pair.one.name, pair.other.name): None for pair in pairs}
        same_rows = {view.name: view.same_rows for pair in pairs for view in (pair.one, pair.other)}
        self.sums = self.step(lambda: kind(list(names), same_rows))

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        """Add a block of the rows of all places."""
        self.step(lambda: self.sums.update(rows, masked))

    def of(self, pair: Pair) -> Any:
        """What a metric needs to know of one pair."""
        if self.stopped is not None:
            raise self.stopped
        return self.sums.pair(pair.one.name, pair.other.name, *pair.left_out())


class Sides:
    """What metrics say of single sides, for the next pair that such a side is in; the longest unused makes room."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[tuple[str, str, str, bytes], tuple[Any, int]] = {}

    def of(self, key: tuple[str, str, str, bytes], find: Callable[[], Any]) -> Any:
        """What is kept under the key, or what is found now."""
        found, n_bytes = self._kept.pop(key) if key in self._kept else _sized(find())
        while self._kept and n_bytes + sum(other for _, other in self._kept.values()) > self._max_bytes:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = found, n_bytes
        return found


def _sized(found: Any) -> tuple[Any, int]:
    tensors = found if isinstance(found, tuple) else (found,)
    return found, sum(tensor.nbytes for tensor in tensors)


class PairValue(Value):
    """The value of a metric on two places: from shared statistics, from blocks of its own, from what it says of either
    side, or from all rows at once.

    Args:
        name: of the table row.
        metric: for this pair alone.
        call: what the metric was made of; the same for metrics that are.
        pair: the places.
        sides: what metrics have said of sides.
    """

    def __init__(self, name: str, metric: Any, call: str, pair: Pair, sides: Sides) -> None:
        super().__init__(name, metric, pair.n_rows)
        self.pair = pair
        self._call = call
        self._sides = sides
        self.statistics_kind = getattr(metric, "quick_statistics", None) or getattr(metric, "statistics", None)
        self.takes_blocks = self.statistics_kind is None and getattr(metric, "streams", False)
        self.step(self._start)

    def _start(self) -> None:
        if not self.n:
            raise Undefined("the two sides share no rows")
        if self.takes_blocks:
            self.metric.reset()
            if hasattr(self.metric, "anchor_places"):
                places = self.pair.kept.nonzero().flatten()[self.metric.anchor_places(self.n)]
                self.metric.anchors(*(self._anchors(view, places) for view in (self.pair.one, self.pair.other)))

    def _anchors(self, view: View, places: Int[Tensor, " a"]) -> Any:
        return self._sides.of(self._side_key(view, "anchors"), lambda: view.take(places))

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], part: slice, sides: Sides) -> None:
        """Add a block of rows to a metric that takes blocks; `sides` holds what was said of sides of this block."""
        kept = self.pair.kept[part]

        def rows_of(view: View) -> Tensor:
            of_view = rows[view.name]
            return of_view[kept.to(of_view.device)]

        def of_side(side: str, view: View) -> Any:
            return sides.of(self._side_key(view), lambda: self.metric.of_side(side, rows_of(view)))

        one, other = self.pair.one, self.pair.other
        if hasattr(self.metric, "update_sides"):
            self.step(lambda: self.metric.update_sides(of_side("x", one), of_side("y", other)))
        else:
            self.step(lambda: self.metric.update(rows_of(one), rows_of(other)))

    @property
    def is_quick(self) -> bool:
        """Whether `refine` would ask for more."""
        return self.statistics_kind is not None and self.statistics_kind is not getattr(self.metric, "statistics", None)

    def refine(self) -> None:
        """Take the metric's own statistics: quick ones were too imprecise for this value, or for one beside it."""
        if isinstance(self.stopped, Imprecise):
            self.stopped = None
        if self.is_quick:
            self.statistics_kind = self.metric.statistics

    def end(self, statistics: Mapping[Any, Statistics]) -> dict[str, Any]:
        """The table row; needs all blocks to have been given. May raise Imprecise where it `is_quick`."""
        if self.statistics_kind is not None:
            return self.row(lambda: self.metric.compute_from(statistics[self.statistics_kind].of(self.pair)))
        if hasattr(self.metric, "of_sides"):
            return self.row(
                lambda: self.metric.of_sides(self._side("x", self.pair.one), self._side("y", self.pair.other))
            )
        return self.row(self.metric.compute if self.takes_blocks else lambda: self.metric(*self.pair.take()))

    def _side(self, side: str, view: View) -> Any:
        kept = self.pair.kept.nonzero().flatten()
        return self._sides.of(self._side_key(view), lambda: self.metric.of_side(side, view.take(kept)))

    def _side_key(self, view: View, what: str = "") -> tuple[str, str, str, bytes]:
        """Equal for sides of which metrics say the same: the anchors, too, are given by which rows are kept."""
        return what, self._call, view.name, self.pair.kept_digest


def read_blocks(
    values: Sequence[PairValue],
    block_rows: int,
    device: torch.device,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[Any, Statistics]:
    """Feed all that takes blocks, from one reading of the rows; the statistics, by their class."""
    pairs_of: dict[Any, list[Pair]] = {}
    for value in values:
        if value.statistics_kind is not None:
            pairs_of.setdefault(value.statistics_kind, []).append(value.pair)
    statistics = {kind: Statistics(kind, pairs) for kind, pairs in pairs_of.items()}
    fed = [value for value in values if value.takes_blocks]
    pairs = [value.pair for value in fed] + [pair for pairs in pairs_of.values() for pair in pairs]
    views = {view.name: view for pair in pairs for view in (pair.one, pair.other)}
    n = len(pairs[0].kept) if pairs else 0
    for start in range(0, n, block_rows):
        part = slice(start, start + block_rows)
        rows = {name: view.take(part) for name, view in views.items()}
        masked = {name: view.masked[part].to(device) for name, view in views.items()}
        for kind in statistics.values():
            kind.update(rows, masked)
        of_block = Sides(SIDES_BYTES)
        for value in fed:
            value.update(rows, part, of_block)
        on_progress(min(n, start + block_rows), n)
    return statistics
