"""Sparse codes times a dictionary, and the exact gradient of it, without any product of size [b, m].

A row has k of m codes. Dense autograd spends four matrix products of b·m·d multiplications on zeros; the sums here
take b·k·d each. Everything is built from `embedding_bag`, which sums weighted rows of a table, one bag at a time: no
atomics, so an accelerator gives the same bits each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag


def weighted_rows(
    values: Float[Tensor, "b k"], indices: Int[Tensor, "b k"], table: Float[Tensor, "m d"]
) -> Float[Tensor, "b d"]:
    """Σ_i values[b, i] · table[indices[b, i]]."""
    return embedding_bag(indices, table, mode="sum", per_sample_weights=values)


def sampled_products(
    rows: Float[Tensor, "b d"], indices: Int[Tensor, "b k"], table: Float[Tensor, "m d"]
) -> Float[Tensor, "b k"]:
    """rows[b] · table[indices[b, i]]: the derivative of `weighted_rows` by its values, which torch has a kernel for."""
    with torch.enable_grad():
        values = rows.new_zeros(indices.shape, requires_grad=True)
        (products,) = torch.autograd.grad(weighted_rows(values, indices, table), values, rows)
    return products


@dataclass(frozen=True)
class Grouped:
    """The entries of sparse codes [b, k], sorted by latent."""

    order: Int[Tensor, " bk"]
    """Places in the flattened codes; within a latent in the order of the rows."""
    starts: Int[Tensor, " m"]
    """Where in `order` each latent begins."""
    k: int

    @classmethod
    def by_latent(cls, indices: Int[Tensor, "b k"], n_latents: int) -> Grouped:
        flat = indices.flatten()
        if flat.device.type == "cpu" and n_latents <= 2**16:
            # numpy sorts 16-bit numbers by radix, several times as fast as torch.argsort.
            order = torch.from_numpy(np.argsort(flat.numpy().astype(np.uint16), kind="stable"))
        else:
            order = flat.argsort(stable=True)
        counts = torch.zeros(n_latents, dtype=torch.long, device=flat.device)
        counts.scatter_add_(0, flat, torch.ones_like(flat))  # bincount would make the program wait for an accelerator
        return cls(order, counts.cumsum(0) - counts, indices.shape[1])

    def sums(self, values: Float[Tensor, "b k"], rows: Float[Tensor, "b d"]) -> Float[Tensor, "m d"]:
        """For each latent Σ values[b, i] · rows[b] over the entries where it occurs."""
        weights = values.flatten()[self.order]
        return embedding_bag(self.order // self.k, rows, self.starts, mode="sum", per_sample_weights=weights)

    def totals(self, values: Float[Tensor, "b k"]) -> Float[Tensor, " m"]:
        """For each latent Σ values[b, i] over the entries where it occurs."""
        return embedding_bag(self.order, values.reshape(-1, 1), self.starts, mode="sum").squeeze(1)
