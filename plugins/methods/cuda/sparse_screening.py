"""The largest pre-activations in float32 on a card, without computing the others in it.

Tensor cores multiply many times as fast in bfloat16, and the rounding has a bound. With ỹ and w̃ the rounded y and w,
s = y·w + b as a product in float32 has it, s̃ as one in bfloat16 does, and u = 2⁻⁸, Cauchy–Schwarz gives

    |s − s̃| ≤ ‖y − ỹ‖·‖w̃‖ + ‖y‖·‖w − w̃‖ + 4·d·2⁻²⁴·‖y‖·‖w‖ + 2·u·(|b| + (1 + 4u)·|s̃|),

where tensor cores may cut off what they add instead of rounding it, which doubles their part of the third term. With ρ
the largest ‖y − ỹ‖/‖y‖ of the batch it is at most ‖y‖·growth + constant + RELATIVE·|s̃|, where the growth belongs to
the latent alone. So what is chosen is proven once everything that could be has been computed in float32. Rows of which
too little is known have all pre-activations computed in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.cuda import sparse_screening_kernels as kernels
from harness.plugins.methods.cuda.sparse_largest import MOST_NUMBERS, keep_largest, largest_places
from harness.plugins.methods.cuda.sparse_sums import products
from harness.plugins.methods.rounding import UNIT

_LEAST_WEIGHTS = 2**22
"""Least size of an encoder; the product with a smaller one takes less time than the launches that it would save."""
_SHORTEST = 1e-12
"""A norm added to all: squares of much smaller numbers leave the range of float32."""
_LEAST_RATIO = 2.0**-20
_SAFETY = 1 + 2.0**-10
"""A factor for the rounding of the bound itself."""
_LEAST_ROOM, _ROOM = 128, 8
"""Candidates that are kept in any case, and for each of the k codes of a row; a row with more of them is done whole."""


def pays(encoder: Float[Tensor, "m d"]) -> bool:
    """True if screening is faster than one product in float32."""
    return encoder.numel() >= _LEAST_WEIGHTS and len(encoder) <= MOST_NUMBERS


@dataclass
class Screen:
    """Pre-activations in bfloat16, with bounds on their distance from those in float32."""

    y: Float[Tensor, "b d"]
    encoder: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    pre: Float[Tensor, "b m"]
    bound: kernels.Bound

    @classmethod
    def of(
        cls,
        y: Float[Tensor, "b d"],
        encoder: Float[Tensor, "m d"],
        encoder_bias: Float[Tensor, " m"],
        out: Float[Tensor, "b m"] | None = None,
    ) -> Self:
        y = y.contiguous()
        (half_y, norms, lost), (half_encoder, lengths, shortened) = kernels.rounded(y), kernels.rounded(encoder)
        with _sums_in_float32():
            pre = torch.addmm(encoder_bias.bfloat16(), half_y, half_encoder.T, out=out)
        norms, lengths, shortened = norms + _SHORTEST, lengths + _SHORTEST, shortened + UNIT * _SHORTEST
        # A row that is not finite has no bound, and leaves the others theirs.
        ratio = (lost / norms).nan_to_num(0, posinf=0).amax().clamp(min=_LEAST_RATIO)
        of_sums = 4 * y.shape[1] * 2.0**-24 * lengths
        growths = (ratio * (lengths + shortened) + shortened + of_sums) * _SAFETY
        constant = 2 * UNIT * _SAFETY * encoder_bias.abs().max()
        return cls(y, encoder, encoder_bias, pre, kernels.Bound(norms, growths, constant))

    def largest(self, k: int) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
        """The k largest pre-activations of each row and their latents, in the order of latents; of equal ones the
        first.
        """
        weights, most = (self.y, self.encoder, self.encoder_bias), max(_LEAST_ROOM, _ROOM * k)
        candidates, counts, values = kernels.candidates_in_float32(*weights, self.pre, self.bound, k, most)
        most = candidates.shape[1]
        kept, latents = keep_largest(values, candidates, counts.clamp(max=most), k)
        open_rows = ((counts < k) | (counts > most)).nonzero().squeeze(1)
        if len(open_rows):
            dense = self._dense(open_rows)
            places = largest_places(dense, k)
            kept[open_rows], latents[open_rows] = dense.gather(1, places), places
        return kept, latents

    def largest_of_all(self, n: int, guess: Float[Tensor, ""]) -> tuple[harness.Support, Float[Tensor, " e"]]:
        """The n largest pre-activations of all rows together, or all positive ones where there are fewer.

        `guess`, near and below the smallest of them, makes it fast; any gives the same.
        """
        if guess > 0 and (found := self._among_those_above(guess, n)) is not None:
            return found
        dense = self._dense(slice(None)).flatten()
        places = (dense > 0).nonzero().squeeze(1)
        return self._largest_of(places, dense[places], n)

    def _among_those_above(
        self, guess: Float[Tensor, ""], n: int
    ) -> tuple[harness.Support, Float[Tensor, " e"]] | None:
        """The n largest, if there are as many above the guess."""
        places, rough, bound = self._listed(guess.expand(len(self.encoder)))
        if len(places) < n:
            return None
        is_top = torch.zeros(len(places), dtype=torch.bool, device=places.device)
        is_top[rough.topk(n, sorted=False).indices] = True
        top = self._exact(places[is_top])
        least = top.min()  # the n-th largest in float32 is no smaller
        if not guess <= least:
            return None  # what is not listed may be larger
        other = places[~is_top & (rough + bound >= least)]
        return self._largest_of(torch.cat([places[is_top], other]), torch.cat([top, self._exact(other)]), n)

    def between(
        self, lower: Float[Tensor, " m"], upper: Float[Tensor, " m"] | None = None
    ) -> tuple[harness.Support, Float[Tensor, " e"]]:
        """The pre-activations above the lower and below the upper limit of their latent."""
        upper = torch.full_like(lower, torch.inf) if upper is None else upper
        places, _, _ = self._listed(lower, upper)
        values, latents = self._exact(places), places % len(self.encoder)
        is_between = (values > lower[latents]) & (values < upper[latents])
        return harness.Support.at(places[is_between], *self.pre.shape), values[is_between]

    def _listed(
        self, lower: Float[Tensor, " m"], upper: Float[Tensor, " m"] | None = None
    ) -> tuple[Int[Tensor, " c"], Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Places that may be between the limits, in order; their pre-activations in bfloat16, and how far these may be
        off.
        """
        upper = torch.full_like(lower, torch.inf) if upper is None else upper
        places = kernels.marks(self.pre, self.bound, lower, upper).flatten().nonzero().squeeze(1)
        rough = self.pre.flatten()[places].float()
        rows, latents = places // len(self.encoder), places % len(self.encoder)
        norms, growths, constant = self.bound
        return places, rough, norms[rows] * growths[latents] + constant + kernels.SAFE_RELATIVE * rough.abs()

    def _exact(self, places: Int[Tensor, " c"]) -> Float[Tensor, " c"]:
        rows, latents = places // len(self.encoder), places % len(self.encoder)
        return products(self.y, self.encoder, rows, latents) + self.encoder_bias[latents]

    def _largest_of(
        self, places: Int[Tensor, " c"], values: Float[Tensor, " c"], n: int
    ) -> tuple[harness.Support, Float[Tensor, " e"]]:
        if len(values) > n:
            chosen = values.topk(n, sorted=False).indices
            places, values = places[chosen], values[chosen]
        places, order = places.sort()
        return harness.Support.at(places, *self.pre.shape), values[order]

    def _dense(self, rows: Int[Tensor, " r"] | slice) -> Float[Tensor, "r m"]:
        return torch.addmm(self.encoder_bias, self.y[rows], self.encoder.T)


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Keep a product in bfloat16 from being added up in it, which torch allows where work is split."""
    matmul = torch.backends.cuda.matmul
    if not matmul.allow_bf16_reduced_precision_reduction:
        yield
        return
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = True
