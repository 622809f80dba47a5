"""Inner products of U-centred kernels, summed over minibatches of rows: what minibatch CKA needs of many pairs.

For the linear kernels K and L [n, n] of the n rows of a minibatch that neither side masks, with zero diagonals and
U-centred (Székely & Rizzo 2014, definition 2), Σ K̃L̃ = n(n−3) HSIC₁(K, L). A place's kernels are made and centred once
for all of its pairs; only where sides mask different rows of a minibatch is one made for each mask.

Rows are centred in float64 and multiplied in float32 where they came as that; all else is float64.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import harness

MINIBATCH_ROWS = 256
MIN_ROWS = 4
"""With fewer, HSIC₁ is not defined; such a minibatch adds nothing."""
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class KernelProducts:
    """Of one pair, over all minibatches."""

    n_rows: int
    """In the minibatches that count."""
    products: Float[Tensor, "2 2"]
    """Σ of [K̃K̃, K̃L̃; L̃K̃, L̃L̃]."""
    norms: Float[Tensor, " 2"]
    """Σ‖K‖² and Σ‖L‖² before U-centring: what the rounding errors of the products are small against."""


class MinibatchKernels:
    """Minibatches are consecutive rows, whatever blocks they come in; the last may be smaller."""

    def __init__(self, pairs: Sequence[tuple[str, str]], same_rows: Mapping[str, str] | None = None) -> None:
        self._sums = {pair: _nothing() for pair in pairs}
        self._waiting: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}

    @torch.no_grad()
    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        """Add one block of the aligned rows of every place."""
        joined = [
            {place: torch.cat([kept[place], x]) if kept else x for place, x in new.items()}
            for kept, new in zip(self._waiting, (rows, masked), strict=True)
        ]
        n = len(next(iter(joined[0].values())))
        n_whole = n - n % MINIBATCH_ROWS
        for start in range(0, n_whole, MINIBATCH_ROWS):
            self._add(*({place: x[start : start + MINIBATCH_ROWS] for place, x in each.items()} for each in joined))
        # Rows are only lent.
        kept_rows, kept_masks = ({place: x[n_whole:].clone() for place, x in each.items()} for each in joined)
        self._waiting = kept_rows, kept_masks

    def pair(self, x: str, y: str, without_x: object = None, without_y: object = None) -> KernelProducts:
        """The sums of one pair; ends the minibatch that is being filled."""
        if self._waiting[0]:
            self._add(*self._waiting)
            self._waiting = {}, {}
        return self._sums[x, y]

    def _add(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        pairs_of: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
        masks = {place: mask.cpu().numpy() for place, mask in masked.items()}
        for x, y in self._sums:
            pairs_of[(masks[x] | masks[y]).tobytes()].append((x, y))
        for pairs in pairs_of.values():
            x, y = pairs[0]
            kept = ~(masked[x] | masked[y])
            if int(kept.sum()) >= MIN_ROWS:
                self._add_pairs(pairs, {place: rows[place][kept] for place in dict.fromkeys(sum(pairs, ()))})

    def _add_pairs(self, pairs: Sequence[tuple[str, str]], rows: Mapping[str, Float[Tensor, "n d"]]) -> None:
        number = {place: i for i, place in enumerate(rows)}
        n = len(next(iter(rows.values())))
        kernels = torch.stack([_kernel(x) for x in rows.values()])
        norms = kernels.square().sum(dim=(1, 2))
        centred = u_centre(kernels).flatten(1)
        products = centred @ centred.T
        for x, y in pairs:
            own = [number[x], number[y]]
            so_far = self._sums[x, y]
            self._sums[x, y] = KernelProducts(
                so_far.n_rows + n, so_far.products + products[own][:, own].cpu(), so_far.norms + norms[own].cpu()
            )


def u_centre(kernels: Float[Tensor, "*p n n"]) -> Float[Tensor, "*p n n"]:
    """U-centre, in place, each kernel without its diagonal (Székely & Rizzo 2014, definition 2).

    The sum of the products of the entries of two such matrices is n(n−3) HSIC₁.
    """
    n = kernels.shape[-1]
    kernels.diagonal(dim1=-2, dim2=-1).zero_()
    sums = kernels.sum(dim=-1)
    total = sums.sum(dim=-1)[..., None, None] / ((n - 1) * (n - 2))
    kernels.sub_(sums[..., None, :] / (n - 2)).sub_(sums[..., :, None] / (n - 2)).add_(total)
    kernels.diagonal(dim1=-2, dim2=-1).zero_()
    return kernels


def _kernel(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    wide = x.double()
    mean = wide.mean(dim=0)
    centred = wide - mean
    # Spread that float64 could not have told from none at this distance from the origin.
    if centred.square().sum() <= len(x) * (8 * _EPS * mean.norm()) ** 2:
        centred.zero_()
    z = centred.to(torch.promote_types(x.dtype, torch.float32))
    kernel = (z @ z.T).double()
    if not kernel.isfinite().all():
        raise harness.Undefined("the squares of some rows leave the range of their dtype; rescale them")
    return kernel


def _nothing() -> KernelProducts:
    return KernelProducts(0, torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
