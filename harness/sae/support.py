"""Sparse codes times a dictionary, and the exact gradient of it, without any product of size [b, m].

A row has few of its m codes. Dense autograd spends four matrix products of b·m·d multiplications on zeros; the sums
here take d for each code. Everything is built from `embedding_bag`, which sums weighted rows of a table, one bag at a
time: no atomics, so an accelerator gives the same bits each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Support:
    """The e places of codes [b, m] that may differ from 0, in the order of their rows."""

    rows: Int[Tensor, " e"]
    latents: Int[Tensor, " e"]
    n_rows: int
    n_latents: int

    @classmethod
    def of_each_row(cls, latents: Int[Tensor, "b k"], n_latents: int) -> Self:
        """The places of k latents in every row."""
        n_rows, k = latents.shape
        rows = torch.arange(n_rows, device=latents.device).repeat_interleave(k)
        return cls(rows, latents.flatten(), n_rows, n_latents)

    @classmethod
    def at(cls, places: Int[Tensor, " e"], n_rows: int, n_latents: int) -> Self:
        """These places, sorted, of the flattened codes."""
        return cls(places // n_latents, places % n_latents, n_rows, n_latents)

    @classmethod
    def where(cls, chosen: Bool[Tensor, "b m"]) -> Self:
        """The places that are True."""
        return cls.at(chosen.flatten().nonzero().squeeze(1), *chosen.shape)

    def at_places(self, chosen: Int[Tensor, " f"]) -> Self:
        """These of the places."""
        return type(self)(self.rows[chosen], self.latents[chosen], self.n_rows, self.n_latents)

    def of(self, dense: Float[Tensor, "b m"]) -> Float[Tensor, " e"]:
        """The values at the places."""
        return dense.flatten()[self.rows * self.n_latents + self.latents]

    def decode(self, values: Float[Tensor, " e"], table: Float[Tensor, "m d"]) -> Float[Tensor, "b d"]:
        """Codes · table, where the codes have these values."""
        return embedding_bag(self.latents, table, self._row_starts, mode="sum", per_sample_weights=values)

    def products(self, rows: Float[Tensor, "b d"], table: Float[Tensor, "m d"]) -> Float[Tensor, " e"]:
        """rows[row] · table[latent] at each place: the derivative of `decode` by its values."""
        with torch.enable_grad():
            values = rows.new_zeros(len(self.rows), requires_grad=True)
            (gradient,) = torch.autograd.grad(self.decode(values, table), values, rows)
        return gradient

    def sums_by_latent(self, values: Float[Tensor, " e"], rows: Float[Tensor, "b d"]) -> Float[Tensor, "m d"]:
        """The sums Σ values · rows[row] over the places of each latent: codesᵀ · rows."""
        order, starts = self._by_latent
        return embedding_bag(self.rows[order], rows, starts, mode="sum", per_sample_weights=values[order])

    def totals_by_latent(self, values: Float[Tensor, " e"]) -> Float[Tensor, " m"]:
        """The sums Σ values over the places of each latent."""
        order, starts = self._by_latent
        return embedding_bag(order, values[:, None], starts, mode="sum").squeeze(1)

    @cached_property
    def _row_starts(self) -> Int[Tensor, " b"]:
        return _starts(self.rows, self.n_rows)

    @cached_property
    def _by_latent(self) -> tuple[Int[Tensor, " e"], Int[Tensor, " m"]]:
        """The places sorted by latent, within one in the order of the rows, and where each latent begins."""
        if self.latents.device.type == "cpu" and self.n_latents <= 2**16:
            # numpy sorts 16-bit numbers by radix, several times as fast as torch.argsort.
            order = torch.from_numpy(np.argsort(self.latents.numpy().astype(np.uint16), kind="stable"))
        else:
            # A radix sort takes as many passes as the numbers have bytes.
            narrow = torch.int16 if self.n_latents <= 2**15 else torch.int32
            order = self.latents.to(narrow).argsort(stable=True)
        return order, _starts(self.latents, self.n_latents)


def _starts(groups: Int[Tensor, " e"], n_groups: int) -> Int[Tensor, " n_groups"]:
    """Places where each group begins once the places are sorted by group."""
    counts = torch.zeros(n_groups, dtype=torch.long, device=groups.device)
    counts.scatter_add_(0, groups, torch.ones_like(groups))  # bincount would make the program wait for an accelerator
    return counts.cumsum(0) - counts
