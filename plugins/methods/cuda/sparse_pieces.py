"""The pieces that work is cut into for sparse kernels."""

from __future__ import annotations

_COLUMN_BLOCKS = 256, 128, 64, 32, 16
_MOST_PADDING = 1 / 8
BLOCK = 2048
"""Numbers of a row that are put into order at once, so that registers are left for more programs at a time."""


def column_block(d: int) -> int:
    """Columns that a program takes at once: as many as leave at most an eighth of the last block empty, of all."""
    return next((block for block in _COLUMN_BLOCKS if -(-d // block) * block <= (1 + _MOST_PADDING) * d), 16)


def warps(n: int) -> int:
    """Warps for a program that holds n numbers in its registers."""
    return 4 if n <= 2048 else 8 if n <= 8192 else 16 if n <= 16384 else 32
