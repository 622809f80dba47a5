"""Graphs of poles that are alike, each joined to its nearest ones.

Of p poles all p² pairs would be 17 GB at 65,000. So each keeps its `N_NEAREST` largest likenesses above 0; a pair that
neither keeps counts as 0.

- co-firing: φ of two poles on n rows, (n n_ij − n_i n_j) / √(n_i n_j (n − n_i)(n − n_j)), with n_i the rows on which i
  fires and n_ij those on which both do: the correlation of two indicators. Only pairs that fire together are looked at.
- cosine: of two directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.grouping.firing import Firing

N_NEAREST = 50
_MAX_PAIRS = 2**22
"""Pairs that are looked at together."""


@dataclass(frozen=True)
class Likeness:
    """Pairs of poles that are alike: `first` < `second`, each pair once."""

    n_poles: int
    first: Int[np.ndarray, " e"]
    second: Int[np.ndarray, " e"]
    values: Float[np.ndarray, " e"]
    """Above 0, at most 1."""


Pairs: TypeAlias = tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"], Float[np.ndarray, " e"]]
"""Two poles each, and a number."""


def together(firing: Firing) -> Iterator[Pairs]:
    """The rows on which two poles fire together, for all pairs (i, j) and (j, i) that do, block by block of j."""
    transposed = firing.matrix.T.tocsr()
    for part in _parts(len(firing.counts)):
        both = (transposed @ firing.matrix[:, part].tocsr()).tocoo()
        i, j = both.coords[0].astype(np.int64), both.coords[1].astype(np.int64) + part.start
        yield i[i != j], j[i != j], both.data[i != j].astype(np.float64)


def cofiring(firing: Firing, n_nearest: int = N_NEAREST) -> Likeness:
    """φ between poles."""
    n, counts = firing.n_rows, firing.counts.astype(np.float64)
    spreads = np.sqrt(counts * (n - counts))

    def columns() -> Iterator[Pairs]:
        for i, j, both in together(firing):
            known = spreads[i] * spreads[j] > 0  # one that fires on all rows goes with nothing
            i, j = i[known], j[known]
            yield i, j, (n * both[known] - counts[i] * counts[j]) / (spreads[i] * spreads[j])

    return _nearest(len(counts), columns(), n_nearest)


def cosine(directions: Float[Tensor, "p d"], n_nearest: int = N_NEAREST) -> Likeness:
    """Cosines between directions; one of norm 0 is like none."""
    rows = directions.double()
    norms = rows.norm(dim=1, keepdim=True)
    units = torch.where(norms > 0, rows / norms.clamp(min=torch.finfo(torch.float64).tiny), 0.0)

    def columns() -> Iterator[Pairs]:
        for part in _parts(len(units)):
            cosines = units[part] @ units.T
            cosines[torch.arange(len(cosines)), torch.arange(len(units))[part]] = 0.0
            top = cosines.topk(min(n_nearest, len(units)), dim=1)
            j = torch.arange(part.start, part.stop)[:, None].expand(top.indices.shape)
            i, values = top.indices.flatten().cpu().numpy(), top.values.flatten().cpu().numpy()
            yield i, j.flatten().numpy(), values

    return _nearest(len(units), columns(), n_nearest)


def _parts(n: int) -> Iterator[slice]:
    step = max(1, _MAX_PAIRS // max(n, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _nearest(n: int, columns: Iterator[Pairs], n_nearest: int) -> Likeness:
    """The pairs (i, j, likeness) in which i is one of the nearest of j, or j of i."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for i, j, values in columns:
        order = np.lexsort((i, -values, j))
        order = order[values[order] > 0]
        j = j[order]
        rank = np.arange(len(j)) - np.searchsorted(j, j)
        order = order[rank < n_nearest]
        found.append((i[order], j[rank < n_nearest], values[order]))
    i, j, values = (np.concatenate(part) for part in zip(*found, strict=True))
    first, second = np.minimum(i, j), np.maximum(i, j)
    pairs, places = np.unique(first * n + second, return_index=True)
    return Likeness(n, pairs // max(n, 1), pairs % max(n, 1), values[places])
