"""Decompositions whose latents are groups of another one's: clusters, heads, features found more than once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.errors import Undefined

_MAX_DENSE = 2**25
"""The most coefficients of the base that are dense at a time."""


@dataclass(frozen=True)
class Member:
    """One pole of a latent of the base, as a member of a group."""

    latent: int
    """Number of the latent in the base."""
    sign: int
    """1, or -1 for the negative pole of a signed code."""
    weight: float
    """Strength of its belonging there, on the scale of the method that has made the groups."""
    peak: float
    """The largest activation on the fit rows, above 0: the unit in which the group's code counts it."""


class GroupedDecomposition(Decomposition):
    """Groups of the latents of another decomposition; a latent may be in several, or in none.

    The code of a group is the largest, over its members, of the member's activation (max(0, sign · code)) divided by
    its peak. A row does not say which member that was, so nothing can be decoded.
    """

    signed = False
    base: Decomposition

    def __init__(self, base: Decomposition, groups: Sequence[Sequence[Member]]) -> None:
        members = [(group, member) for group, own in enumerate(groups) for member in own]
        self.base, self.n_latents = base, len(groups)
        self.groups = torch.tensor([group for group, _ in members], dtype=torch.long)
        self.latents = torch.tensor([member.latent for _, member in members], dtype=torch.long)
        self.signs = torch.tensor([member.sign for _, member in members], dtype=torch.long)
        self.weights = torch.tensor([member.weight for _, member in members], dtype=torch.float64)
        self.peaks = torch.tensor([member.peak for _, member in members], dtype=torch.float64)

    @property
    def depth(self) -> int:
        """The number of times that latents were grouped: 2 for groups of groups."""
        return 1 + (self.base.depth if isinstance(self.base, GroupedDecomposition) else 0)

    def members(self, group: int) -> list[Member]:
        """The members of one group, those of the largest weight first."""
        own = (self.groups == group).nonzero().flatten()
        columns = (self.latents[own], self.signs[own], self.weights[own], self.peaks[own])
        found = [Member(*of_one) for of_one in zip(*(column.tolist() for column in columns), strict=True)]
        return sorted(found, key=lambda member: -member.weight)

    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        codes = self.base.encode(x)
        n_rows = max(1, _MAX_DENSE // max(self.base.n_latents, len(self.latents), 1))
        starts = range(0, max(len(x), 1), n_rows)
        return Codes(torch.cat([self._grouped(codes, slice(start, start + n_rows)) for start in starts]))

    def _grouped(self, codes: Codes, rows: slice) -> Float[Tensor, "b g"]:
        """The codes of the groups in some rows."""
        indices = None if codes.indices is None else codes.indices[rows]
        dense = Codes(codes.values[rows], indices, self.base.n_latents).to_dense()
        shares = (dense[:, self.latents] * self.signs).clamp(min=0) / self.peaks.to(dense)
        found = dense.new_zeros(len(dense), self.n_latents)
        return found.scatter_reduce_(1, self.groups.expand(len(dense), -1), shares, "amax")

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        """Nothing; raises Undefined."""
        raise Undefined("a group of latents says that one of them is active and not which, so nothing can be decoded")
