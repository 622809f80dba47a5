"""The sums and selections of SAEs by the fastest way there is for these tensors: the one place that chooses it.

Each function says in its first lines what it computes, by a plain form of torch; compiled for a CPU, or screened in
bfloat16 there, it is the same up to the order of sums, and of equal numbers another may be chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.cpu import largest, screening
from harness.plugins.methods.cpu import products as pairs
from harness.plugins.methods.cpu.screening import Screen as Screen

_LEAST_SCREENED_ROWS = 128
_GUESS = 0.8


def products(support: harness.Support, rows: Float[Tensor, "b d"], table: Float[Tensor, "m d"]) -> Float[Tensor, " e"]:
    """rows[row] · table[latent] at each place of the support."""
    if pairs.can_be_compiled(rows, table):
        return pairs.products(rows, table, support.rows, support.latents)
    return support.products(rows, table)


def largest_latents(pre: Float[Tensor, "b m"], k: int) -> Int[Tensor, "b k"]:
    """The k latents of each row that have the largest pre-activations."""
    if largest.can_be_compiled(pre):
        return largest.largest_places(pre, k)
    return pre.topk(k, dim=1, sorted=False).indices


def largest_latents_of_each(pre: Float[Tensor, "b m"], n_kept: Int[Tensor, " b"]) -> Int[Tensor, " e"]:
    """The latents with the largest pre-activations, as many as each row keeps, row after row."""
    if largest.can_be_compiled(pre):
        return largest.largest_places_of_each(pre, n_kept)
    chosen = [row.topk(k, sorted=False).indices for row, k in zip(pre, n_kept.tolist(), strict=True)]
    return torch.cat(chosen)


def largest_of_rows(
    y: Float[Tensor, "n d"], encoder: Float[Tensor, "m d"], encoder_bias: Float[Tensor, " m"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k largest pre-activations y·encoderᵀ + encoder_bias of each row, and their latents."""
    may_be = y.dtype == encoder.dtype and not y.requires_grad  # compiled loops have no gradient
    if len(y) >= _LEAST_SCREENED_ROWS and may_be and screens(encoder):
        return Screen.of(y, encoder, encoder_bias).largest(k)
    return torch.addmm(encoder_bias.to(y.dtype), y, encoder.T.to(y.dtype)).topk(k, dim=1)


def screens(encoder: Float[Tensor, "m d"]) -> bool:
    """True if pre-activations are computed in bfloat16 first, and only those that may be large in float32."""
    return screening.pays(encoder)


class Chosen(NamedTuple):
    """The places of the codes of a batch and their pre-activations, in the precision of the rows."""

    support: harness.Support
    values: Float[Tensor, " e"]
    pre: Float[Tensor, "b m"] | None
    """The pre-activations of all latents, if they were computed in the precision of the rows."""


class Selection:
    """Finds the largest pre-activations of one batch after the other.

    Args:
        encoder: of the size, type and device of those that will be given.
        n_rows: of the largest batch.
        in_bfloat16: choose among pre-activations in bfloat16; the values of those chosen are as precise as ever.
    """

    def __init__(self, encoder: Float[Tensor, "m d"], n_rows: int, *, in_bfloat16: bool) -> None:
        self._screens = not in_bfloat16 and screens(encoder)
        dtype = torch.bfloat16 if in_bfloat16 or self._screens else encoder.dtype
        # A fresh buffer each step would cost as much in page faults as the top-k that reads it.
        self._room = torch.empty(n_rows, len(encoder), dtype=dtype, device=encoder.device)
        self._smallest = encoder.new_zeros(())

    def of_each_row(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights, k: int) -> Chosen:
        """The k largest of each row."""
        if self._screens:
            values, latents = self._screen(y, weights).largest(k)
            return Chosen(harness.Support.of_each_row(latents, len(weights.encoder)), values.flatten(), None)
        pre = self._pre_activations(y, weights)
        support = harness.Support.of_each_row(largest_latents(pre, k), len(weights.encoder))
        return self._chosen(support, pre, y, weights)

    def of_all(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights, n: int) -> Chosen:
        """The n largest positive ones of all rows together; all positive ones where there are fewer."""
        guess = _GUESS * self._smallest  # sorting is faster among those above it; any guess gives the same
        if self._screens:
            support, values = self._screen(y, weights).largest_of_all(n, guess)
            chosen, selected = Chosen(support, values, None), values
        else:
            pre = self._pre_activations(y, weights)
            support = harness.Support.at(largest_positive(pre.flatten(), n, guess), *pre.shape)
            chosen, selected = self._chosen(support, pre, y, weights), support.of(pre)
        if len(selected):
            self._smallest = selected.min()
        return chosen

    def _screen(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights) -> Screen:
        return Screen.of(y, weights.encoder, weights.encoder_bias, self._room[: len(y)])

    def _pre_activations(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights) -> Float[Tensor, "b m"]:
        room = self._room[: len(y)]
        encoder, bias = weights.encoder.to(room.dtype), weights.encoder_bias.to(room.dtype)
        return torch.addmm(bias, y.to(room.dtype), encoder.T, out=room)

    def _chosen(
        self, support: harness.Support, pre: Float[Tensor, "b m"], y: Float[Tensor, "b d"], weights: harness.SAEWeights
    ) -> Chosen:
        if pre.dtype == y.dtype:
            return Chosen(support, support.of(pre), pre)
        values = products(support, y, weights.encoder) + weights.encoder_bias[support.latents]
        return Chosen(support, values, None)


def largest_positive(flat: Float[Tensor, " e"], n: int, guess: Float[Tensor, ""]) -> Int[Tensor, " n"]:
    """Places of the n largest values in order of place; of all positive ones where there are fewer.

    Sorting everything is avoided by looking first at what is above `guess` (from 0 on); any guess gives the same.
    """
    found = (flat > guess).nonzero().squeeze(1)
    if len(found) < n:
        found = (flat > 0).nonzero().squeeze(1)
    if len(found) <= n:
        return found
    chosen = torch.zeros_like(found, dtype=torch.bool)
    chosen[flat[found].topk(n, sorted=False).indices] = True
    return found[chosen]
