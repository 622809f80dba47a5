"""A buffer for all rows of a stream in memory at once, for methods that can't learn batch by batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness

MAX_BYTES = 8 * 2**30


class HeldRows:
    """A buffer that batches are added to, made before the first pass so that it is known to fit."""

    def __init__(self, method: str, info: harness.Info, also_per_row: int = 0, on_card: bool = False) -> None:
        """Refuse more than the bound.

        Args:
            method: its name, for the error.
            info: of the rows.
            also_per_row: number of further numbers a row that the method itself needs.
            on_card: rows stay on their own device where a quarter of what is free on it holds them.
        """
        n_bytes = info.n_rows * (info.width + also_per_row) * info.dtype.itemsize
        if n_bytes > MAX_BYTES:
            raise harness.ConfigError(
                f"{method}: {info.n_rows} rows of width {info.width} take {n_bytes / 2**30:.3g} GiB, and all must be "
                f"in memory at once; the bound is {MAX_BYTES / 2**30:.3g} GiB. Fit it on fewer tokens."
            )
        there = info.device if on_card and _fits(n_bytes, info.device) else None
        self._buffer = torch.empty(info.n_rows, info.width, dtype=info.dtype, device=there)
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    @property
    def x(self) -> Float[Tensor, "n d"]:
        """The rows so far, on the CPU unless they stay on their own device."""
        return self._buffer[: self._n_rows]

    def add(self, x: Float[Tensor, "b d"]) -> None:
        self._buffer[self._n_rows : self._n_rows + len(x)] = x
        self._n_rows += len(x)


def _fits(n_bytes: int, device: torch.device) -> bool:
    return device.type == "cuda" and 4 * n_bytes <= torch.cuda.mem_get_info(device)[0]
