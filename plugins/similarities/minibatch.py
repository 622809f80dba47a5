"""Inner products of U-centred kernels of many pairs, summed over minibatches of rows, for minibatch CKA.

For the linear kernels K and L [n, n] of the n rows of a minibatch that neither side masks, with zero diagonals and
U-centred (Székely & Rizzo 2014, definition 2), Σ K̃L̃ = n(n−3) HSIC₁(K, L). A place's kernels are made and centred once
for all of its pairs; only where sides mask different rows of a minibatch is one made for each mask.

Rows are centred in float64 and multiplied in float32 where they came as that; all else is float64. So are products of
minibatches in which a row is far from the others, as one that moves the mean leaves none of the digits that are left
after U-centring, and of those whose squares leave the range of float32. Values agree to 1e-7.
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
"""Fewest rows for which HSIC₁ is defined; a smaller minibatch adds nothing."""
_EPS = torch.finfo(torch.float64).eps
# Squared norm of a row, against the mean of the minibatch, from which on float32 is too imprecise.
_FAR = 30
# Squares of norms that float32 holds.
_SMALLEST, _LARGEST = 1e-16, 1e16


@dataclass
class KernelProducts:
    """Sums over all minibatches for one pair; plain numbers, since there are many pairs and each adds little."""

    n_rows: int = 0
    """Number of rows in the minibatches that count."""
    xx: float = 0.0
    """Σ K̃K̃"""
    xy: float = 0.0
    """Σ K̃L̃"""
    yy: float = 0.0
    """Σ L̃L̃"""
    norm_x: float = 0.0
    """Σ‖K‖² without the diagonal before U-centring, against which the rounding errors of the products are small."""
    norm_y: float = 0.0
    """Σ‖L‖²"""

    def add(self, n_rows: int, products: list[list[float]], norms: list[float], i: int, j: int) -> None:
        """Add a minibatch whose kernels i and j are those of the sides."""
        self.n_rows += n_rows
        self.xx += products[i][i]
        self.xy += products[i][j]
        self.yy += products[j][j]
        self.norm_x += norms[i]
        self.norm_y += norms[j]


class MinibatchKernels:
    """Kernels of minibatches of consecutive rows, whatever blocks they come in; the last may be smaller.

    The kernels of all places are multiplied at once: how many there are may change the last bit of a value.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], same_rows: Mapping[str, str] | None = None, read_again: object = None
    ) -> None:
        self._sums = {pair: KernelProducts() for pair in pairs}
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
        n, device = (first := next(iter(rows.values()))).shape[0], first.device
        kernels = torch.empty(len(rows), n, n, dtype=torch.float64, device=device)
        for kernel, x in zip(kernels, rows.values(), strict=True):
            kernel.copy_(_kernel(x))
        kernels.diagonal(dim1=1, dim2=2).zero_()
        norms = torch.linalg.vector_norm(kernels, dim=(1, 2)).square()
        if not norms.isfinite().all():
            raise harness.Undefined("the squares of some rows leave the range of their dtype; rescale them")
        centred = u_centre(kernels).flatten(1)
        products, of_norms = (centred @ centred.T).tolist(), norms.tolist()
        for pair in pairs:
            self._sums[pair].add(n, products, of_norms, *(number[place] for place in pair))


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
    """The linear kernel of centred rows, in the dtype of the rows if that does, but at least float32."""
    centred = x.double()
    mean = centred.mean(dim=0)
    centred -= mean  # lent rows stay as they are: those of float64 are copied by the mask that chose them
    # Spread that float64 could not have told from none at this distance from the origin.
    if torch.linalg.vector_norm(centred) <= len(x) ** 0.5 * 8 * _EPS * mean.norm():
        centred.zero_()
    squares = centred.square().sum(dim=1)
    largest = float(squares.max())
    if largest < _FAR * float(squares.mean()) and _SMALLEST < largest < _LARGEST:
        centred = centred.to(torch.promote_types(x.dtype, torch.float32))
    return centred @ centred.T
