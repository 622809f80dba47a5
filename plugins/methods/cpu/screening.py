"""The largest pre-activations in float32, without computing the others in it.

A CPU with bfloat16 instructions multiplies several times as fast in it (an EPYC four times), and the rounding has a
bound. With ỹ and w̃ the rounded y and w, s = y·w + b as a product in float32 has it, s̃ as one in bfloat16 does, and
u = 2⁻⁸, Cauchy–Schwarz gives

    |s − s̃| ≤ ‖y − ỹ‖·‖w̃‖ + ‖y‖·‖w − w̃‖ + 2·d·2⁻²⁴·‖y‖·‖w‖ + 2·u·(|b| + (1 + 4u)·|s̃|),

whether the bias is added before or after rounding. So the codes of a row are proven once everything that could be one
has been computed in float32: some 1.5 k dot products for k codes. Rows of which too little is known have all
pre-activations computed in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.cpu.products import products
from harness.plugins.methods.cpu.screening_loops import largest_in_float32, rounded
from harness.plugins.methods.rounding import RELATIVE, UNIT

_LEAST_WEIGHTS = 2**18
"""Least size of an encoder; products with smaller ones take so little time that there is little to save."""
_SHORTEST = 1e-12
"""The smallest norm of rows and encoders that are screened."""


def pays(encoder: Float[Tensor, "m d"]) -> bool:
    """True if screening is faster than one product in float32."""
    if encoder.device.type != "cpu" or encoder.dtype != torch.float32 or not encoder.is_contiguous():
        return False
    has = torch.cpu.get_capabilities()
    return encoder.numel() >= _LEAST_WEIGHTS and bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@dataclass
class Screen:
    """Pre-activations in bfloat16, with bounds on their distance from those in float32."""

    y: Float[Tensor, "b d"]
    encoder: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    pre: Float[Tensor, "b m"]
    slack: Float[Tensor, " b"]
    """The bound without its last term, for the longest w and the largest b."""

    @classmethod
    def of(
        cls,
        y: Float[Tensor, "b d"],
        encoder: Float[Tensor, "m d"],
        encoder_bias: Float[Tensor, " m"],
        out: Float[Tensor, "b m"] | None = None,
    ) -> Self:
        y = y.contiguous()
        (half_y, norms, lost), (half_encoder, lengths, shortened) = rounded(y), rounded(encoder)
        pre = torch.addmm(encoder_bias.bfloat16(), half_y, half_encoder.T, out=out)
        longest, most_lost = lengths.max(), shortened.max()
        of_sums = 2 * y.shape[1] * 2.0**-24 * norms * longest
        slack = lost * (longest + most_lost) + norms * most_lost + of_sums + 2 * UNIT * encoder_bias.abs().max()
        # Squares of much smaller numbers leave the range of float32.
        slack = torch.where((norms > _SHORTEST) & (longest > _SHORTEST), slack, torch.inf)
        return cls(y, encoder, encoder_bias, pre, slack)

    def largest(self, k: int) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
        """The k largest pre-activations of each row and their latents; 0 or less, anywhere, where too few are above."""
        values, latents, proven = largest_in_float32(self.pre, self.slack, self.y, self.encoder, self.encoder_bias, k)
        open_rows = (~proven).nonzero().squeeze(1)
        if len(open_rows):
            values[open_rows], latents[open_rows] = self._dense(open_rows).topk(k, dim=1, sorted=False)
        return values, latents

    def largest_of_all(self, n: int, guess: Float[Tensor, ""]) -> tuple[harness.Support, Float[Tensor, " e"]]:
        """The n largest pre-activations of all rows together, or all positive ones where there are fewer.

        `guess`, near and below the smallest of them, makes it fast; any gives the same.
        """
        cut = torch.where(guess > 0, guess, torch.inf).to(self.pre.dtype)
        support = harness.Support.where(self.pre > cut)
        values = products(self.y, self.encoder, support.rows, support.latents) + self.encoder_bias[support.latents]
        least = values.topk(n, sorted=False).values.min() if len(values) >= n else guess.new_zeros(())
        is_open = ~(cut.float() * (1 + RELATIVE) + self.slack <= least)
        if is_open.any():
            support, values = self._with_dense_rows(support, values, is_open, least)
        if len(values) > n:
            chosen = values.topk(n, sorted=False).indices.sort().values
            support, values = support.at_places(chosen), values[chosen]
        return support, values

    def _with_dense_rows(
        self,
        support: harness.Support,
        values: Float[Tensor, " e"],
        is_open: Bool[Tensor, " b"],
        least: Float[Tensor, ""],
    ) -> tuple[harness.Support, Float[Tensor, " e"]]:
        """The places of the other rows, and all of these that are positive and, up to rounding, not below `least`."""
        closed = ~is_open[support.rows]
        open_rows = is_open.nonzero().squeeze(1)
        dense = self._dense(open_rows)
        more = harness.Support.where((dense >= (least - self.slack[open_rows])[:, None]) & (dense > 0))
        rows = torch.cat([support.rows[closed], open_rows[more.rows]])
        latents = torch.cat([support.latents[closed], more.latents])
        order = rows.argsort(stable=True)
        found = harness.Support(rows[order], latents[order], support.n_rows, support.n_latents)
        return found, torch.cat([values[closed], more.of(dense)])[order]

    def _dense(self, rows: Int[Tensor, " r"]) -> Float[Tensor, "r m"]:
        return torch.addmm(self.encoder_bias, self.y[rows], self.encoder.T)
