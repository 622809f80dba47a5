"""The chunks that a capture is stored, resumed and read again in, and ranges of them. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

BATCH_WINDOWS = 16
_MAX_CHUNK_BATCHES = 64


def chunk_windows(n_tokens: int, context: int) -> int:
    """Windows in a chunk: whole batches, about a sixteenth of the pass, so that one that is killed loses little and one
    that is short runs little in vain; bounded, since a chunk is held in memory.
    """
    n_batches = round(n_tokens / context / BATCH_WINDOWS / 16)
    return BATCH_WINDOWS * min(max(n_batches, 1), _MAX_CHUNK_BATCHES)


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
