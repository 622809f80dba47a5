"""Rows that are learnt from while they are captured: none is stored, and all sites of a pass share its readings.

The texts are read from the first to the last, again and again. Every stream takes the rows that it lacks, holds those
whose turn has not come, and gives them in the order in which stored rows would be read. So learners get the same
batches, and only the number of readings depends on how many rows there is room for. Chunks that no stream lacks are cut
into windows but not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.capturing.activations import Stream
from harness.capturing.capture import Chunk
from harness.errors import StoreError
from harness.fitting.supply import Block
from harness.fitting.waiting import WaitingRows
from harness.storage.activation_store import StoredActivations, row_norms
from harness.storage.tensor_files import save_tensors, take_up_tensors

Read: TypeAlias = Callable[[Callable[[int], bool]], Iterator[tuple[int, Chunk]]]
"""Reads the texts from their beginning: the chunks that a function wants, with their numbers."""


class Flow:
    """Readings of the texts of one pass.

    Args:
        read: reads them once.
        captured: what the capture kept of each site's rows, by site; all have one table of rows.
        max_bytes: what the rows may take that all streams hold together.
    """

    def __init__(self, read: Read, captured: Mapping[str, StoredActivations], max_bytes: float) -> None:
        self._read, self._captured, self._max_bytes = read, captured, max_bytes
        self._starts = next(iter(captured.values())).starts
        self._reading: Iterator[tuple[int, Chunk]] = iter(())
        self._waiting: list[tuple[str, WaitingRows]] = []
        self.supplies: list[FlowingRows] = []
        self.lacks_room = False
        """True once rows were let go, which have to be captured again."""

    def supply(
        self, site: str, stream: Stream, device: torch.device, mean_file: Path, dtype: torch.dtype = torch.float32
    ) -> FlowingRows:
        """The rows of a stream of one of the sites; all are asked for before the first is read."""
        self.supplies.append(FlowingRows(self, site, stream, device, dtype, mean_file))
        return self.supplies[-1]

    def forget(self) -> None:
        """Remove what was kept on disk for a run that goes on after a kill."""
        for supply in self.supplies:
            supply.forget()

    def wait(self, site: str, stream: Stream, pass_number: int, first: int) -> WaitingRows:
        """Have the rows of a pass held from now on."""
        max_bytes = self._max_bytes / len(self.supplies)
        rows = WaitingRows(stream.order(pass_number), stream.activations.n_rows, first, max_bytes)
        self._waiting.append((site, rows))
        return rows

    def leave(self, rows: WaitingRows) -> None:
        """Have no more rows held."""
        self._waiting = [other for other in self._waiting if other[1] is not rows]

    def advance(self) -> None:
        """Capture the next chunk that some stream lacks."""
        for _ in range(2):  # what is left of this reading, and all of the next
            for number, chunk in self._reading:
                self._give(number, chunk)
                return
            self._reading = self._read(self._is_wanted)
        raise StoreError(
            "the corpus no longer gives rows that were captured from it. If its files have changed meanwhile, remove "
            f"{next(iter(self._captured.values())).folder} and run the suite again: the rows are captured anew."
        )

    def _is_wanted(self, number: int) -> bool:
        start, end = self._starts[number : number + 2].tolist()
        return any(rows.wants(start, end) for _, rows in self._waiting)

    def _give(self, number: int, chunk: Chunk) -> None:
        start, end = self._starts[number : number + 2].tolist()
        _check_rows(next(iter(self._captured.values())), slice(start, end), chunk)
        for site, activations in self._captured.items():
            _check_norms(site, activations, slice(start, end), chunk)
        for site, rows in self._waiting:
            rows.receive(start, chunk.x[site][: end - start])
        self.lacks_room |= any(rows.let_go for _, rows in self._waiting)


class FlowingRows:
    """The rows of one stream as they are captured, on a device. See `Supply`."""

    shares_mean = True

    def __init__(
        self, flow: Flow, site: str, stream: Stream, device: torch.device, dtype: torch.dtype, mean_file: Path
    ) -> None:
        self._flow, self._site, self._stream = flow, site, stream
        self._device, self._dtype, self._mean_file = device, dtype, mean_file
        self._mean = self._remembered()

    @property
    def n_rows(self) -> int:
        """The number of rows of a pass."""
        return self._stream.n_rows

    def blocks(self, pass_number: int, n_passes: int = 1, first: int = 0) -> Iterator[Block]:
        # Here, not when the first block is asked for: all streams wait before one of them reads.
        return self._taken(self._flow.wait(self._site, self._stream, pass_number, first))

    def _taken(self, rows: WaitingRows) -> Iterator[Block]:
        try:
            while not rows.is_over:
                while not rows.has_next:
                    self._flow.advance()
                x, places = rows.take()
                # As stored rows are read: in float32 first.
                yield x.float().to(self._device, self._dtype), places
        finally:
            self._flow.leave(rows)

    def mean(self) -> Float[Tensor, " d"]:
        if self._mean is None:
            _take_means([supply for supply in self._flow.supplies if supply._mean is None])
        assert self._mean is not None  # just taken
        return self._mean.to(self._device)

    def remember(self, mean: Float[Tensor, " d"]) -> None:
        """Keep the mean on disk too: a run that goes on after a kill need not read all texts for it again."""
        self._mean = mean
        save_tensors(self._mean_file, {"mean": mean}, None)

    def forget(self) -> None:
        """Remove the mean from disk."""
        self._mean_file.unlink(missing_ok=True)

    def _remembered(self) -> Float[Tensor, " d"] | None:
        found = take_up_tensors(self._mean_file, "The texts are read once more for their mean.")
        return found and found[0]["mean"]


def _take_means(supplies: list[FlowingRows]) -> None:
    """Read the texts for the means of all streams, side by side, each summed in its own order."""
    reading = {supply: supply.blocks(0) for supply in supplies}
    n_done = dict.fromkeys(supplies, 0)
    totals: dict[FlowingRows, Tensor] = {}
    while reading:
        supply = min(reading, key=lambda supply: n_done[supply] / supply.n_rows)
        if (block := next(reading[supply], None)) is None:
            supply.remember(totals[supply] / supply.n_rows)
            del reading[supply]
            continue
        part = block[0].sum(dim=0, dtype=torch.float64)
        totals[supply] = totals[supply] + part if supply in totals else part
        n_done[supply] += len(block[0])


def _check_rows(captured: StoredActivations, places: slice, chunk: Chunk) -> None:
    """Refuse to learn from rows of other texts than those that were captured."""
    names = ["document", "window", "position"]
    wanted = captured.rows.iloc[places][names].to_numpy()
    if not np.array_equal(chunk.rows[: len(wanted)][names].to_numpy(), wanted):
        raise StoreError(
            f"rows {places.start} to {places.stop} of {captured.folder} come from other texts than the corpus has "
            "there. If its files have changed meanwhile, run the suite again: the rows are captured anew."
        )


def _check_norms(site: str, captured: StoredActivations, places: slice, chunk: Chunk) -> None:
    """Refuse to learn from another model than was captured; it may round its activations otherwise."""
    x, wanted = chunk.x[site][: places.stop - places.start], captured.norms[places]
    norms, finite = row_norms(x).cpu(), torch.isfinite(wanted)
    error, size = (norms - wanted)[finite].norm(), wanted[finite].norm()
    if not (torch.equal(finite, torch.isfinite(norms)) and error <= torch.finfo(x.dtype).eps ** 0.5 * size):
        raise StoreError(
            f"{site}: the model gives other activations than when {captured.folder} was captured. If its weights have "
            "changed under one name, remove that folder and run the suite again."
        )
