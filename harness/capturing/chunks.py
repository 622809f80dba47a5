"""The chunks that a capture is stored, resumed and read again in, and ranges of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

BATCH_WINDOWS = 16
_CARD_BATCH_TOKENS = 2**15
"""Tokens in a batch on a card, padding counted: 256 windows of 128."""
_MAX_CHUNK_BATCHES = 64


def chunk_windows(n_tokens: int, context: int) -> int:
    """Windows in a chunk: whole batches, about a sixteenth of the pass, so that one that is killed loses little and one
    that is short runs little in vain; bounded, since a chunk is held in memory.
    """
    n_batches = round(n_tokens / context / BATCH_WINDOWS / 16)
    return BATCH_WINDOWS * min(max(n_batches, 1), _MAX_CHUNK_BATCHES)


def batches(lengths: Sequence[int], *, is_card: bool) -> Iterator[list[int]]:
    """The places of the windows of a chunk, those of similar length together, in batches for a device.

    They depend on the chunk and the kind of device alone, so a capture that goes on there gives the same rows.

    Args:
        lengths: tokens of each window.
        is_card: the model is on a card, where small batches leave most of it idle.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    while order:
        n = BATCH_WINDOWS
        if is_card:  # the longest is the last
            n = next((n for n in range(len(order), 1, -1) if n * lengths[order[n - 1]] <= _CARD_BATCH_TOKENS), 1)
        yield order[:n]
        order = order[n:]


class Range(NamedTuple):
    """One of several ranges of a capture: the chunks whose first row is in its share of the rows.

    Which chunks there are does not depend on it.
    """

    number: int
    n: int
    """The number of ranges."""

    def rows(self, n_tokens: int) -> tuple[int, int]:
        """The first row of the range, and that after it, of so many that are asked for."""
        return self.number * n_tokens // self.n, (self.number + 1) * n_tokens // self.n
