"""Moments of two sides whose rows are paired anew: of all sums only those over both sides change.

So K random pairings cost one product of both sides each, where each as a comparison of its own would take two more, of
each side with itself, and their eigenvectors.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.similarities.cards import multiplies_float64_quickly
from harness.plugins.similarities.centred_moments import CentredMoments

_BLOCK_ROWS = 4096
# Squares of norms whose squares, summed over a block, float32 holds.
_SMALLEST, _LARGEST = 1e-16, 1e16


class Pairings:
    """Moments for any pairing of the rows of two sides.

    Args:
        moments: of the rows as they come, in float64.
        x: the rows of one side.
        y: the rows of the other.
        may_round: rows and products of blocks may be rounded to float32, if their squares stay in its range; on a card
            that multiplies float64 as quickly they are not.
    """

    def __init__(
        self, moments: CentredMoments, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], may_round: bool
    ) -> None:
        self._moments = moments
        self._rows = x, y
        sides = self._centred()
        self._norms = [torch.linalg.vecdot(side, side) for side in sides]
        in_range = all(_SMALLEST < float(norms.max()) < _LARGEST for norms in self._norms)
        may_round = may_round and not multiplies_float64_quickly(x.device)
        self._is_rounded = may_round and in_range and x.dtype == y.dtype == torch.float32
        self._sides = (sides[0].float(), sides[1].float()) if self._is_rounded else sides

    def moments(self, order: Int[Tensor, " n"]) -> CentredMoments:
        """The moments with row i of x beside row order[i] of y."""
        norm_products = float(self._norms[0] @ self._norms[1][order])
        paired = replace(
            self._moments,
            xy=_products(*self._sides, order),
            norm_products=norm_products,
            pilot_norm_products=norm_products,
        )
        if not self._is_rounded:
            return paired
        return replace(paired, doubt=lambda: lambda: replace(paired, xy=_products(*self._centred(), order)))

    def _centred(self) -> tuple[Float[Tensor, "n d1"], Float[Tensor, "n d2"]]:
        x, y = self._rows
        return x.double() - self._moments.x.mean, y.double() - self._moments.y.mean


def _products(x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], order: Int[Tensor, " n"]) -> Float[Tensor, "d1 d2"]:
    total = x.new_zeros(x.shape[1], y.shape[1], dtype=torch.float64)
    for own, others in zip(x.split(_BLOCK_ROWS), order.split(_BLOCK_ROWS), strict=True):
        total += own.T @ y[others]
    return total
