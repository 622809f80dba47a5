"""Activations of groups of latents, which are active where their members are.

A group (`GroupedDecomposition`) is active where any member is above that one's own threshold, on however many rows: cut
to its strongest 1 % of rows, as a single latent is, it would be shown by its loudest member alone. It is silent where
all members are at or below their own ceilings. Where it is neither its activation is cut to its threshold, which is the
largest number below all activations where it is active; 0 if it is active wherever it is not silent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.capturing.activations import BLOCK_ROWS, Activations
from harness.contracts.decomposition import Decomposition
from harness.contracts.grouped import GroupedDecomposition
from harness.latents.activations import LatentActivations, read_activations


def read_latents(
    decomposition: Decomposition, activations: Activations, masked: Bool[Tensor, " n"], device: torch.device
) -> LatentActivations:
    """The activations of latents, or of groups, on the unmasked rows; raises what `read_activations` does."""
    if not isinstance(decomposition, GroupedDecomposition):
        return read_activations(decomposition, activations, masked, device)
    of_members = read_latents(decomposition.base, activations, masked, device)
    cells = _heard(decomposition, of_members)
    places = (~masked).nonzero().flatten()
    n_above = torch.zeros(decomposition.n_latents, dtype=torch.long)
    for index in places.split(BLOCK_ROWS):
        codes = decomposition.encode(activations.take(index).to(device)).to_dense().cpu()
        n_above += (codes > 0).sum(dim=0)
        cells.take(codes, index)
    return _grouped(decomposition, of_members, cells, _one_pole(n_above.numpy() / len(places)), len(places))


@dataclass(frozen=True)
class _Cells:
    """The rows where each group is not silent, group by group."""

    numbers: Int[np.ndarray, " c"]
    """Numbers of the groups."""
    rows: Int[np.ndarray, " c"]
    is_active: Bool[np.ndarray, " c"]
    values: Float[np.ndarray, " c"]
    """The codes, as far as rows have been encoded."""
    by_row: Int[np.ndarray, " c"]

    def take(self, codes: Float[Tensor, "b g"], index: Int[Tensor, " b"]) -> None:
        """Look up the codes of some rows, whose places are rising."""
        places, sorted_rows = index.numpy(), self.rows[self.by_row]
        chosen = self.by_row[
            np.searchsorted(sorted_rows, places[0]) : np.searchsorted(sorted_rows, places[-1], "right")
        ]
        self.values[chosen] = codes.numpy()[np.searchsorted(places, self.rows[chosen]), self.numbers[chosen]]


def _heard(groups: GroupedDecomposition, of_members: LatentActivations) -> _Cells:
    """The rows where some member is not silent, and whether one is active there."""
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, dtype=bool))
    parts = [none]
    columns = (groups.groups, groups.latents, groups.signs)
    for group, latent, sign in zip(*(column.tolist() for column in columns), strict=True):
        pole = of_members.pole(latent, sign)
        parts.append((np.full(len(pole.rows), group), pole.rows, pole.is_active))
    numbers, rows, is_active = (np.concatenate(part) for part in zip(*parts, strict=True))
    n_rows = int(rows.max(initial=0)) + 1
    cells, cell_of = np.unique(numbers * n_rows + rows, return_inverse=True)
    active = np.zeros(len(cells), dtype=bool)
    np.logical_or.at(active, cell_of, is_active)
    numbers, rows = cells // n_rows, cells % n_rows
    return _Cells(numbers, rows, active, np.zeros(len(cells), np.float32), rows.argsort(kind="stable"))


def _grouped(
    groups: GroupedDecomposition,
    of_members: LatentActivations,
    cells: _Cells,
    density: Float[Tensor, "g 2"],
    n_unmasked: int,
) -> LatentActivations:
    """The activations of groups from their codes where they are not silent."""
    m = groups.n_latents
    thresholds = _thresholds(cells.numbers, cells.values, cells.is_active, m)
    values = np.where(cells.is_active, cells.values, np.minimum(cells.values, thresholds[cells.numbers]))
    counts, n_active = (np.bincount(own, minlength=m) for own in (cells.numbers, cells.numbers[cells.is_active]))
    return LatentActivations(
        offsets=torch.from_numpy(np.concatenate([[0], counts.cumsum()])),
        rows=torch.from_numpy(cells.rows).int(),
        values=torch.from_numpy(values),
        thresholds=_one_pole(thresholds),
        ceilings=_one_pole(np.minimum(_ceilings(groups, of_members), thresholds)),
        density=density,
        active_share=_one_pole(n_active / n_unmasked),
    )


def _thresholds(
    numbers: Int[np.ndarray, " c"], values: Float[np.ndarray, " c"], active: Bool[np.ndarray, " c"], n_groups: int
) -> Float[np.ndarray, " g"]:
    """The largest number below a group's activations where it is active; 0 if it is active everywhere."""
    lowest, largest = np.full(n_groups, np.inf, dtype=np.float32), np.zeros(n_groups, dtype=np.float32)
    np.minimum.at(lowest, numbers[active], values[active])
    np.maximum.at(largest, numbers, values)
    is_neither = np.zeros(n_groups, dtype=bool)
    is_neither[numbers[~active]] = True
    below = np.where(np.isfinite(lowest), np.nextafter(lowest, np.float32(0)), largest)
    return np.where(is_neither, below, np.float32(0))


def _ceilings(groups: GroupedDecomposition, of_members: LatentActivations) -> Float[np.ndarray, " g"]:
    """The lowest ceiling of a group's members: above it no activation is left out; 0 for a group without members."""
    column = (groups.signs < 0).long().cpu()  # as in POLES
    own = of_members.ceilings[groups.latents.cpu(), column].numpy() / groups.peaks.cpu().numpy()
    lowest = np.full(groups.n_latents, np.inf)
    np.minimum.at(lowest, groups.groups.cpu().numpy(), own)
    return np.where(np.isfinite(lowest), lowest, 0.0).astype(np.float32)


def _one_pole(values: Float[np.ndarray, " g"]) -> Float[Tensor, "g 2"]:
    """A column of the groups' values beside one of zeros: codes of groups are never negative."""
    column = torch.from_numpy(values)
    return torch.stack([column, torch.zeros_like(column)], dim=1)
