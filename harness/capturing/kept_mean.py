"""The mean of rows in their order, summed in blocks, so that it has the same bits however they arrive.

Where rows are not stored it is taken as they pass, though only all norms together tell which rows are masked. The first
rows tell nearly from which norm on; if that masks the same rows in the end, the mean is right, and else it is taken
again.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.capturing.activations import BLOCK_ROWS
from harness.capturing.masking import kept, typical_norm
from harness.storage.activation_store import row_norms


class KeptMean:
    """The mean in float64 of the rows that it is given."""

    def __init__(self) -> None:
        self._total: Float[Tensor, " d"] | None = None
        self._waiting: list[Float[Tensor, "b d"]] = []
        self._n_waiting = 0
        self._n_rows = 0

    def add(self, x: Float[Tensor, "n d"]) -> None:
        """Add the rows that come next."""
        self._n_rows += len(x)
        while len(x):
            missing = BLOCK_ROWS - self._n_waiting
            self._waiting.append(x[:missing])
            self._n_waiting += len(x[:missing])
            x = x[missing:]
            if self._n_waiting == BLOCK_ROWS:
                self._sum_block()

    def value(self) -> Float[Tensor, " d"]:
        """The mean of all rows so far, of which there must be some; none may be added later."""
        if self._n_waiting:
            self._sum_block()
        assert self._total is not None, "add rows first"
        return self._total / self._n_rows

    def _sum_block(self) -> None:
        part = torch.cat(self._waiting).float().sum(dim=0, dtype=torch.float64)
        self._total = part if self._total is None else self._total + part
        self._waiting, self._n_waiting = [], 0


class PassingMean:
    """The mean of the rows that are not masked, of rows that pass but once.

    Args:
        max_norm_multiple: rows are masked from this multiple of the typical norm on.
        max_norm: the norm where it is known; else that of the first rows is a guess.
    """

    def __init__(self, max_norm_multiple: float, max_norm: float | None = None) -> None:
        self._max_norm_multiple, self._max_norm = max_norm_multiple, max_norm
        self._mean, self._n_rows = KeptMean(), 0

    def add(self, x: Float[Tensor, "n d"]) -> None:
        """Add the rows that come next."""
        norms = row_norms(x)
        if self._max_norm is None:
            self._max_norm = self._max_norm_multiple * typical_norm(norms)
        self._n_rows += len(x)
        self._mean.add(x[kept(norms, self._max_norm)])

    def value(self, norms: Float[Tensor, " n"]) -> Float[Tensor, " d"] | None:
        """The mean; None if it is of other rows than those that are not masked.

        Args:
            norms: of all rows.
        """
        wanted = kept(norms, self._max_norm_multiple * typical_norm(norms))
        if self._max_norm is None or self._n_rows != len(norms) or not wanted.any():
            return None
        return self._mean.value() if torch.equal(wanted, kept(norms, self._max_norm)) else None
