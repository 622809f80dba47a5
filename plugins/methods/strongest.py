"""The largest of many numbers in each row, faster than by arg-max."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_GROUP = 64


def whole_groups(m: int) -> int:
    """The width that `first_strongest` wants for m numbers."""
    return -(-m // _GROUP) * _GROUP


def first_strongest(
    strengths: Float[Tensor, "b groups_of_64"], m: int, barred: Bool[Tensor, "b p"], margin: float
) -> tuple[Int[Tensor, " b"], Bool[Tensor, " b"]]:
    """The first of the m atoms with the largest strength per row, and whether another comes within `margin` of it.

    In two stages, since torch's arg-max on a CPU goes number by number while its maximum is vectorised (8 times
    faster): the maximum of each group of 64, then the arg-max over groups and within the best group.
    """
    # No strength is below 0: those of -1 are never the largest.
    n = len(strengths)
    if m < strengths.shape[1]:
        strengths[:, m:] = -1
    if barred.shape[1]:
        strengths[:, m - barred.shape[1] : m].masked_fill_(barred, -1)
    groups = strengths.view(n, -1, _GROUP)
    maxima = groups.amax(dim=2)
    best, group = maxima.max(dim=1, keepdim=True)
    members = groups.gather(1, group[:, :, None].expand(n, 1, _GROUP)).squeeze(1)
    member = members.argmax(dim=1)
    # The best itself is in both.
    n_close = (torch.cat([maxima, members], dim=1) >= best - margin).sum(dim=1)
    return group.squeeze(1) * _GROUP + member, n_close > 2
