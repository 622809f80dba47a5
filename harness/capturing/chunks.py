"""The size of the chunks that a capture is stored, resumed and read again in. Imports no torch."""

from __future__ import annotations

BATCH_WINDOWS = 16
_MAX_CHUNK_BATCHES = 64


def chunk_windows(n_tokens: int, context: int) -> int:
    """Windows in a chunk: whole batches, about a sixteenth of the pass, so that one that is killed loses little and one
    that is short runs little in vain; bounded, since a chunk is held in memory.
    """
    n_batches = round(n_tokens / context / BATCH_WINDOWS / 16)
    return BATCH_WINDOWS * min(max(n_batches, 1), _MAX_CHUNK_BATCHES)
