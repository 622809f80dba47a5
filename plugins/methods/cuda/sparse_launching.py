"""The choices that all sparse kernels share: how they are compiled, and how work is cut for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton

_COLUMN_BLOCKS = 256, 128, 64, 32, 16
_MOST_PADDING = 1 / 8
BLOCK = 2048
"""Numbers of a row that are put into order at once, so that registers are left for more programs at a time."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel for the card when it is first launched; its arguments in capitals are part of the code."""
    return triton.jit(function)


def launch(function: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a compiled kernel on the card of its first argument; nothing where the grid is empty."""
    if all(grid):
        with torch.cuda.device_of(arguments[0]):
            # Said here, since Triton's own choice of fusing a product with a sum differs between its versions.
            function[grid](*arguments, enable_fp_fusion=True, **constants)


def column_block(d: int) -> int:
    """Columns that a program takes at once: as many as leave at most an eighth of the last block empty, of all."""
    return next((block for block in _COLUMN_BLOCKS if -(-d // block) * block <= (1 + _MOST_PADDING) * d), 16)


def warps(n: int) -> int:
    """Warps for a program that holds n numbers in its registers."""
    return 4 if n <= 2048 else 8 if n <= 8192 else 16 if n <= 16384 else 32
