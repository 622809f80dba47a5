"""One reading of the rows of many pairs, which feeds all values that take blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

from harness.comparing.pair_values import FromBlocks, FromStatistics, PairValue
from harness.comparing.pairing import AlignedRows, Pair
from harness.comparing.sides import SIDES_BYTES, Sides
from harness.comparing.statistics import Statistics
from harness.contracts.similarity import AlignedBlock


class Blocks:
    """The rows of views of one alignment, block by block, as often as they are asked for."""

    def __init__(
        self,
        views: Mapping[str, AlignedRows],
        block_rows: int,
        device: torch.device,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._views = views
        self._block_rows = block_rows
        self._device = device
        self._on_progress = on_progress

    def parts(self) -> Iterator[slice]:
        """The places of the rows of each block."""
        n = len(next(iter(self._views.values())).places) if self._views else 0
        for start in range(0, n, self._block_rows):
            stop = min(n, start + self._block_rows)
            yield slice(start, stop)
            self._on_progress(stop, n)

    def block(self, part: slice, names: Collection[str]) -> AlignedBlock:
        """The rows of these views at these places, and which of them each view masks."""
        views = [self._views[name] for name in names]
        rows = {view.name: view.take(part) for view in views}
        return rows, {view.name: view.masked[part].to(self._device) for view in views}

    def read(self, names: Collection[str]) -> Iterator[AlignedBlock]:
        """Read all blocks of these views."""
        return (self.block(part, names) for part in self.parts())


def read(
    values: Sequence[PairValue],
    block_rows: int,
    device: torch.device,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Feed all values that take blocks, and let those that share statistics compute from them."""
    fed = [value for value in values if isinstance(value, FromBlocks)]
    shared = [value for value in values if isinstance(value, FromStatistics)]
    views = {view.name: view for value in (*fed, *shared) for view in (value.pair.one, value.pair.other)}
    blocks = Blocks(views, block_rows, device, on_progress)
    pairs_of: dict[Any, list[Pair]] = {}
    for value in shared:
        pairs_of.setdefault(value.kind, []).append(value.pair)
    statistics = {kind: Statistics(kind, pairs, blocks.read) for kind, pairs in pairs_of.items()}
    for part in blocks.parts():
        rows, masked = blocks.block(part, views)
        for kind in statistics.values():
            kind.update(rows, masked)
        of_block = Sides(SIDES_BYTES)
        for streamed in fed:
            streamed.update(rows, part, of_block)
    for value in shared:
        value.compute(statistics[value.kind])
