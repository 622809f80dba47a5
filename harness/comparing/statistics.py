"""Statistics that several metrics share, of many pairs of representations at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from harness.comparing.pairing import Pair
from harness.comparing.values import Steps
from harness.contracts.similarity import AlignedBlock, JointStatistics


class Statistics(Steps):
    """An instance of the class that metrics name as their `statistics`."""

    def __init__(
        self,
        kind: type[JointStatistics],
        pairs: Sequence[Pair],
        read_again: Callable[[Collection[str]], Iterator[AlignedBlock]],
    ) -> None:
        super().__init__()
        names = {(pair.one.name, pair.other.name): None for pair in pairs}
        same_rows = {view.name: view.same_rows for pair in pairs for view in (pair.one, pair.other)}
        self._joint: JointStatistics = self.step(lambda: kind(list(names), same_rows, read_again))

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        """Add a block of the rows of all representations."""
        self.step(lambda: self._joint.update(rows, masked))

    def of(self, pair: Pair) -> Any:
        """The statistics of one pair."""
        if self.stopped is not None:
            raise self.stopped
        return self._joint.pair(pair.one.name, pair.other.name, *pair.left_out())
