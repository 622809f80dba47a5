"""Activations of every latent on some rows, and the rows where each of its poles counts as active or as silent.

A pole is a latent's index and a sign; latents of unsigned decompositions have only +1. Its activation on a row is
max(0, sign · code), the codes of an atom taken twice being added; on masked rows it is 0. With n unmasked rows:

- threshold: the largest value but ⌊MAX_ACTIVE · n⌋, or 0 if that is less. A row is *active* above it. Dense codes
  (a rotation) and sparse ones are thus shown by equally many rows; a latent that is rarer counts wherever it is not 0.
- ceiling: the largest value but ⌊MAX_HEARD · n⌋, or 0. A row is *silent* at or below it; between the two it is neither.
- density: the share of the n rows where its activation is above 0, whatever the threshold.
- active_share: the share of them where it is active, MAX_ACTIVE at most.

Ranks, not interpolated quantiles: with ties no more rows than these shares ever lie above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.capturing.activations import BLOCK_ROWS, Activations
from harness.capturing.halving import Halving
from harness.contracts.decomposition import Codes, Decomposition
from harness.errors import PluginError, Undefined
from harness.files import writing

MAX_ACTIVE = 0.01
MAX_HEARD = 0.1
POLES = (1, -1)
"""The order of the two columns of thresholds, ceilings, densities and active shares."""
MAX_ENTRIES = 2**25
"""The most coefficients that one pass over the rows gathers: 12 bytes each, and a multiple while they are sorted."""

PoleId: TypeAlias = tuple[int, int]
"""A pole's latent, by index, and its sign."""


@dataclass(frozen=True)
class Pole:
    """One pole of a latent: the rows where it is not silent, in order, and its activations there, all above 0."""

    index: int
    sign: int
    threshold: float
    ceiling: float
    density: float
    active_share: float
    rows: Int[np.ndarray, " r"]
    values: Float[np.ndarray, " r"]

    @property
    def is_active(self) -> Bool[np.ndarray, " r"]:
        return np.asarray(self.values > self.threshold)


@dataclass(frozen=True)
class LatentActivations:
    """The codes of all latents by latent (compressed sparse columns), without those of silent rows."""

    offsets: Int[Tensor, m + 1]
    """Entries offsets[i] to offsets[i + 1] are those of latent i."""
    rows: Int[Tensor, " e"]
    """Places among the rows, rising within each latent."""
    values: Float[Tensor, " e"]
    """Signed codes."""
    thresholds: Float[Tensor, "m 2"]
    ceilings: Float[Tensor, "m 2"]
    density: Float[Tensor, "m 2"]
    active_share: Float[Tensor, "m 2"]

    @property
    def n_latents(self) -> int:
        return len(self.thresholds)

    @property
    def latents(self) -> Int[Tensor, " e"]:
        """The latent of every entry."""
        return torch.repeat_interleave(torch.arange(self.n_latents), self.offsets.diff())

    def pole(self, index: int, sign: int) -> Pole:
        """One pole of one latent."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        values, column = sign * self.values[part], POLES.index(sign)
        threshold, ceiling, density, active_share = (
            float(of[index, column]) for of in (self.thresholds, self.ceilings, self.density, self.active_share)
        )
        rows, values = self.rows[part][values > 0].long(), values[values > 0]
        return Pole(index, sign, threshold, ceiling, density, active_share, rows.numpy(), values.numpy())

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        with writing(path):
            save_file(vars(self), path)

    @classmethod
    def load(cls, path: Path) -> LatentActivations:
        """Read a file that `save` has written."""
        return cls(**load_file(path))


def read_activations(
    decomposition: Decomposition, activations: Activations, masked: Bool[Tensor, " n"], device: torch.device
) -> LatentActivations:
    """Encode the unmasked rows.

    Sparse codes never become dense. Where all entries would not fit into memory, each pass over the rows gathers those
    of as many latents as do fit.

    Raises:
        Undefined: every row is masked.
        PluginError: codes that are not finite, or negative ones of an unsigned decomposition.
    """
    places = (~masked).nonzero().flatten()
    if not len(places):
        raise Undefined("every row is masked")

    halving = Halving()

    def encoded(index: Int[Tensor, " b"]) -> Codes:
        return decomposition.encode(activations.take(index).to(device))

    def blocks() -> Iterator[tuple[Codes, Tensor]]:
        for block in places.split(BLOCK_ROWS):
            yield from ((codes, index) for index, codes in halving.run(block, encoded))

    low, parts = 0, [_columns(_joined_entries([]), 0, len(masked), len(places))]
    while low < decomposition.n_latents:
        high, found = decomposition.n_latents, list[_Entries]()
        for codes, index in blocks():
            found.append(_entries(codes, index, low, high))
            while sum(len(part.values) for part in found) > MAX_ENTRIES and high - low > 1:
                high = (low + high) // 2
                found = [part.below(high - low) for part in found]
        entries = _joined_entries(found)
        _check(entries, decomposition)
        parts.append(_columns(entries, high - low, len(masked), len(places)))
        low = high
    return _joined(parts)


class _Entries(NamedTuple):
    """Coefficients that are not 0, one by one."""

    latents: Int[Tensor, " e"]
    """The latent of each entry, counted from the first that this pass gathers."""
    rows: Int[Tensor, " e"]
    values: Float[Tensor, " e"]

    def below(self, n_latents: int) -> _Entries:
        """The entries of the first `n_latents` latents."""
        chosen = self.latents < n_latents
        return _Entries(*(own[chosen] for own in self))


def _entries(codes: Codes, places: Int[Tensor, " b"], low: int, high: int) -> _Entries:
    """The entries of the rows at `places`, for latents from `low` to before `high`."""
    if codes.indices is None:
        values = codes.values[:, low:high]
        rows, latents = values.nonzero(as_tuple=True)
        values = values[rows, latents]
    else:
        chosen = (codes.values != 0) & (codes.indices >= low) & (codes.indices < high)
        rows = chosen.nonzero()[:, 0]
        latents, values = codes.indices[chosen] - low, codes.values[chosen]
    return _Entries(latents.int().cpu(), places[rows.cpu()].int(), values.float().cpu())


def _joined_entries(parts: list[_Entries]) -> _Entries:
    none = _Entries(torch.empty(0, dtype=torch.int32), torch.empty(0, dtype=torch.int32), torch.empty(0))
    return _Entries(*(torch.cat(part) for part in zip(none, *parts, strict=True)))


def _check(entries: _Entries, decomposition: Decomposition) -> None:
    name = type(decomposition).__name__
    if not entries.values.isfinite().all():
        raise PluginError(f"{name}.encode gives codes that are NaN or infinite on finite rows.")
    if not decomposition.signed and (entries.values < 0).any():
        raise PluginError(f"{name} is unsigned, and encode gives negative codes. Set signed = True.")


def _columns(entries: _Entries, n_latents: int, n_rows: int, n_unmasked: int) -> LatentActivations:
    """The entries of some latents by latent, repeats added up, with their thresholds and ceilings."""
    cells, cell_of = (entries.latents.long() * n_rows + entries.rows).unique(return_inverse=True)  # sorted
    values = torch.zeros(len(cells), dtype=torch.float64).index_add_(0, cell_of, entries.values.double()).float()
    latents, rows = cells // n_rows, cells % n_rows
    active, heard = math.floor(MAX_ACTIVE * n_unmasked), math.floor(MAX_HEARD * n_unmasked)
    above = [_descending(sign * values, latents, n_latents) for sign in POLES]
    thresholds = torch.stack([_ranked(*pole, active) for pole in above], dim=1)
    ceilings = torch.stack([_ranked(*pole, heard) for pole in above], dim=1)
    column = (values < 0).long()  # as in POLES
    is_active = values.abs() > thresholds[latents, column]
    kept = values.abs() > ceilings[latents, column]

    def share_of_rows(chosen: Bool[Tensor, " e"]) -> Float[Tensor, "m 2"]:
        counts = torch.bincount(2 * latents[chosen] + column[chosen], minlength=2 * n_latents)
        return counts.view(-1, 2).double() / n_unmasked

    return LatentActivations(
        offsets=_offsets(torch.bincount(latents[kept], minlength=n_latents)),
        rows=rows[kept].int(),
        values=values[kept],
        thresholds=thresholds,
        ceilings=ceilings,
        density=share_of_rows(values != 0),
        active_share=share_of_rows(is_active),
    )


def _descending(
    values: Float[Tensor, " e"], latents: Int[Tensor, " e"], n_latents: int
) -> tuple[Float[Tensor, " p"], Int[Tensor, " m"]]:
    """The values above 0, by latent and from large to small, and how many each latent has."""
    positive = values > 0
    values, latents = values[positive], latents[positive]
    order = values.argsort(descending=True)
    order = order[latents[order].argsort(stable=True)]
    return values[order], torch.bincount(latents, minlength=n_latents)


def _ranked(values: Float[Tensor, " p"], counts: Int[Tensor, " m"], rank: int) -> Float[Tensor, " m"]:
    """The largest value but `rank` of each latent; 0 where fewer are above 0, for all other rows have 0 or less."""
    ranked = torch.zeros(len(counts))
    has = counts > rank
    ranked[has] = values[(counts.cumsum(0) - counts)[has] + rank]
    return ranked


def _joined(parts: list[LatentActivations]) -> LatentActivations:
    offsets = _offsets(torch.cat([part.offsets.diff() for part in parts]))
    names = ("rows", "values", "thresholds", "ceilings", "density", "active_share")
    return LatentActivations(offsets, *(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _offsets(counts: Int[Tensor, " m"]) -> Int[Tensor, " m_plus_1"]:
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
