"""Rows on their way to a device, in the order of their streams, the same ones whichever way they take.

To a CPU they come as they are read. On a card those that fit stay, from one reading in large pieces, for the mean and
all passes; of a larger store threads read pieces ahead into pinned memory, and copies run beside the learners' work.
The order of the next pass is made while one runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.capturing import activations
from harness.capturing.activations import Stream, TensorActivations

_HELD_SHARE = 1 / 3
"""Share of the free memory of a card that rows may take; learners, of which some have started, need the rest."""
_PIECE_ROWS = 2**16
_PIECES_AHEAD = 3
_READERS = 3

Block = tuple[Float[Tensor, "b d"], Int[Tensor, " b"]]


class Supply(Protocol):
    """The rows of one stream on one device."""

    shares_mean: bool
    """True if a mean is taken for all streams at once, so that its time is no single learner's."""

    def blocks(self, pass_number: int, n_passes: int = 1, first: int = 0) -> Iterator[Block]:
        """Rows on the device, and their places in the activations, in the order of a pass out of several.

        Args:
            pass_number: of the pass, from 0 on.
            n_passes: the number of all passes.
            first: the number of the row that is wanted first: the beginning of a block.
        """
        ...

    def mean(self) -> Float[Tensor, " d"]:
        """The mean of the rows in float64, summed in the order of the first pass."""
        ...


def supplies(streams: Sequence[Stream], device: torch.device, dtype: torch.dtype) -> dict[int, Supply]:
    """A supply for each stream, by its id; streams of the same rows hold them once."""
    if device.type != "cuda":
        return {id(stream): _AsRead(stream, device, dtype) for stream in streams}
    held: dict[tuple[int, int], Tensor] = {}
    made: dict[int, Supply] = {}
    for stream in streams:
        key = id(stream.activations), id(stream.keep)
        if isinstance(stream.activations, TensorActivations) and stream.activations.x.is_cuda:
            made[id(stream)] = _Held(stream, stream.activations.x.to(device, dtype), are_all=True)
            continue
        if key not in held and _fits(stream, device, dtype):
            held[key] = _held(stream, device, dtype)
        made[id(stream)] = _Held(stream, held[key]) if key in held else _ReadAhead(stream, device, dtype)
    return made


class _Replayed(ABC):
    """Rows that can be had whenever they are asked for."""

    shares_mean = False

    def __init__(self, stream: Stream, device: torch.device, dtype: torch.dtype) -> None:
        self._stream, self._device, self._dtype = stream, device, dtype

    @abstractmethod
    def blocks(self, pass_number: int, n_passes: int = 1, first: int = 0) -> Iterator[Block]: ...

    def mean(self) -> Float[Tensor, " d"]:
        total = torch.zeros(self._stream.activations.width, dtype=torch.float64, device=self._device)
        for x, _ in self.blocks(0):
            total += x.sum(dim=0, dtype=torch.float64)
        return total / self._stream.n_rows


class _AsRead(_Replayed):
    def blocks(self, pass_number: int, n_passes: int = 1, first: int = 0) -> Iterator[Block]:
        for x, index in self._stream.blocks(pass_number, first):
            yield x.to(self._device, self._dtype), index


class _Orders:
    """The order of each pass; that of the next one is made in a thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._made: dict[int, Future[Int[Tensor, " n"]]] = {}

    def of(self, pass_number: int, n_passes: int) -> Int[Tensor, " n"]:
        """Places in `keep` in the order of a pass."""
        wanted = range(pass_number, min(pass_number + 2, max(n_passes, pass_number + 1)))
        self._made = {number: self._made.get(number) or self._begun(number) for number in wanted}
        return self._made[pass_number].result()

    def _begun(self, pass_number: int) -> Future[Int[Tensor, " n"]]:
        pool = ThreadPoolExecutor(1)
        begun = pool.submit(self._stream.permutation, pass_number)
        pool.shutdown(wait=False)
        return begun


class _Held(_Replayed):
    """Rows that stay on the device: those that the stream keeps, or all."""

    def __init__(self, stream: Stream, rows: Float[Tensor, "n d"], are_all: bool = False) -> None:
        super().__init__(stream, rows.device, rows.dtype)
        self._rows, self._are_all = rows, are_all
        self._orders = _Orders(stream)

    def blocks(self, pass_number: int, n_passes: int = 1, first: int = 0) -> Iterator[Block]:
        order = self._orders.of(pass_number, n_passes)[first:]
        index = self._stream.keep[order]
        places = (index if self._are_all else order).to(self._rows.device)
        for part, own in zip(places.split(activations.BLOCK_ROWS), index.split(activations.BLOCK_ROWS), strict=True):
            yield self._rows.index_select(0, part), own


class _ReadAhead(_Replayed):
    """Rows that are read again in every pass."""

    def __init__(self, stream: Stream, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(stream, device, dtype)
        self._orders = _Orders(stream)

    def blocks(self, pass_number: int, n_passes: int = 1, first: int = 0) -> Iterator[Block]:
        index = self._stream.keep[self._orders.of(pass_number, n_passes)[first:]]
        with closing(_ahead(self._stream.activations.take_many, index, self._device, self._dtype)) as pieces:
            for piece in pieces:
                yield from zip(*(each.split(activations.BLOCK_ROWS) for each in piece), strict=True)


def _ahead(
    take: Callable[[Int[Tensor, " b"]], Float[Tensor, "b d"]],
    index: Int[Tensor, " n"],
    device: torch.device,
    dtype: torch.dtype,
) -> Generator[Block]:
    """Pieces of the rows at these places on the device, read and copied ahead."""
    copies, pool = _Copies(device), ThreadPoolExecutor(_READERS)

    def read(places: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return copies.pinned(take(places).to(dtype))

    try:
        waiting: deque[tuple[Future[Tensor], Tensor]] = deque()
        copied: deque[tuple[Tensor, object, Tensor]] = deque()
        for places in index.split(_PIECE_ROWS):
            waiting.append((pool.submit(read, places), places))
            if len(waiting) >= _PIECES_AHEAD:
                copied.append(_copied(copies, *waiting.popleft()))
            if len(copied) > 1:  # one is on its way while another is learnt from
                yield _arrived(copies, *copied.popleft())
        for each in waiting:
            copied.append(_copied(copies, *each))
            yield _arrived(copies, *copied.popleft())
        yield from (_arrived(copies, *each) for each in copied)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _copied(copies: _Copies, read: Future[Tensor], places: Tensor) -> tuple[Tensor, object, Tensor]:
    return *copies.send(read.result()), places


def _arrived(copies: _Copies, x: Tensor, event: object, places: Tensor) -> Block:
    copies.await_one(x, event)
    return x, places


class _Copies:
    """Copies to a card beside its other work; to anything else plain ones."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def pinned(self, x: Tensor) -> Tensor:
        return x.pin_memory() if self._stream else x

    def send(self, x: Tensor) -> tuple[Tensor, object]:
        if self._stream is None:
            return x.to(self._device), None
        with torch.cuda.stream(self._stream):
            return x.to(self._device, non_blocking=True), self._stream.record_event()

    def await_one(self, x: Tensor, event: object) -> None:
        """Let the learners' work, not the program, wait for a copy."""
        if isinstance(event, torch.cuda.Event):
            current = torch.cuda.current_stream(self._device)
            current.wait_event(event)
            x.record_stream(current)  # else its memory would be given away while it is read


def _fits(stream: Stream, device: torch.device, dtype: torch.dtype) -> bool:
    n_bytes = stream.n_rows * stream.activations.width * dtype.itemsize
    return n_bytes <= _HELD_SHARE * torch.cuda.mem_get_info(device)[0]


def _held(stream: Stream, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "n d"]:
    """The rows that a stream keeps on a device, in the order of the activations."""
    rows = torch.empty(stream.n_rows, stream.activations.width, dtype=dtype, device=device)
    start = 0
    for x, _ in _ahead(stream.activations.take, stream.keep, device, dtype):
        rows[start : start + len(x)] = x
        start += len(x)
    return rows
