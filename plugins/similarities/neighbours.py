"""Nearest rows of each row by cosine, all against all in tiles: no n × n matrix is ever whole.

Rows come as unit vectors u, for which the nearest by cosine are the nearest by distance. They are moved to their mean
m first, and a row j is scored for a row i by

    (u_i − m)·(v_j − m) − ‖v_j − m‖²/2 = (‖u_i − m‖² − ‖u_i − v_j‖²)/2

because the cosines of rows with a large mean are all 1 less almost nothing: at a mean of 3,000 and a spread of 1 they
would leave float64 9 of its 16 digits, and cosines of cosines none. Scores within rounding of each other are tied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness

# Fewer are slower by half: a matrix product with few rows mostly copies the other side.
_TILE_ROWS = 128
_ROUNDING = 64 * torch.finfo(torch.float64).eps


def unit_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows over their norms, in float64; NaN for rows that are zero."""
    rows = rows.double()
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms


class Members(NamedTuple):
    """The k nearest rows of each of n rows, without itself, each with a degree of membership; those of a row sum to k.

    Rows that are tied for the last r places are members to the degree r / (number of tied rows). Thus neither the order
    of rows nor rounding decides, and a side has overlap 1 with itself however many of its rows are equal.
    """

    places: Int[Tensor, " e"]
    """The number i · n + j for each row j that is a neighbour of row i, in rising order."""
    degrees: Float[Tensor, " e"]


def neighbours(side: str, units: Float[Tensor, "n d"], k: int) -> Members:
    """The k nearest rows of each row by cosine."""
    n = len(units)
    if n < k + 2:
        raise harness.Undefined(f"k = {k} takes in all other rows of {n}; give at least {k + 2} rows, or a smaller k")
    x = units - _mean(side, units)
    parts = []
    for tile in _tiles(n):
        membership = _membership(x, tile, k)
        rows, others = membership.nonzero(as_tuple=True)
        parts.append(((rows + tile.start) * n + others, membership[rows, others]))
    places, degrees = zip(*parts, strict=True)
    return Members(torch.cat(places), torch.cat(degrees))


def overlap(x: Members, y: Members) -> float:
    """The mean over i of |N_x(i) ∩ N_y(i)| / k; the intersection holds the smaller of two degrees."""
    found = torch.searchsorted(y.places, x.places).clamp_(max=len(y.places) - 1)
    shared = y.places[found] == x.places
    n_k = round(float(x.degrees.sum()))
    return float(torch.minimum(x.degrees[shared], y.degrees[found[shared]]).sum()) / n_k


def reordered(members: Members, order: Int[Tensor, " n"]) -> Members:
    """The neighbours of the rows in another order: row i is what row order[i] was."""
    n, place = len(order), order.argsort()  # of row i, in the new order
    places, found = (place[members.places // n] * n + place[members.places % n]).sort()
    return Members(places, members.degrees[found])


def mean_reciprocal_rank(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """The mean over i of 1/rank of row i of y, when all rows of y are sorted by their cosine to row i of x.

    Where others are tied with it, the mean of 1/rank over the ranks that they share.

    Args:
        x: unit vectors.
        y: unit vectors of the same rows in the same space.
    """
    n = len(x)
    _mean("x", x)
    mean = _mean("y", y)
    x, y = x - mean, y - mean
    harmonic = torch.cat([x.new_zeros(1), x.new_ones(n).div_(torch.arange(1, n + 1, device=x.device)).cumsum(0)])
    total = 0.0
    for tile in _tiles(n):
        scores, rounding = _scores(x, y, tile)
        own = scores.diagonal(tile.start)[:, None]
        nearer = (scores > own + rounding).sum(dim=1)
        tied = ((scores - own).abs() <= rounding).sum(dim=1)
        total += float(((harmonic[nearer + tied] - harmonic[nearer]) / tied).sum())
    return total / n


def _tiles(n: int) -> Iterator[slice]:
    return (slice(start, start + _TILE_ROWS) for start in range(0, n, _TILE_ROWS))


def _mean(side: str, units: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    mean = units.mean(dim=0)
    if (units - mean).abs().max() <= _ROUNDING:
        raise harness.Undefined(f"all rows of {side} have one direction: none is nearer to a row than another")
    return mean


def _scores(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], tile: slice) -> tuple[Float[Tensor, "b n"], float]:
    """The scores of all rows of y for a tile of x, and the level of their rounding error."""
    norms = y.square().sum(dim=1)
    scores = (x[tile] @ y.T).sub_(norms / 2)
    largest = max(float(x.square().sum(dim=1).max()), float(norms.max()))
    return scores, _ROUNDING * largest**0.5


def _membership(x: Float[Tensor, "n d"], tile: slice, k: int) -> Float[Tensor, "b n"]:
    """The degree to which each row is one of the k neighbours of the tile's rows; a row's degrees sum to k."""
    scores, rounding = _scores(x, x, tile)
    scores.diagonal(tile.start).fill_(-torch.inf)
    last = scores.topk(k, dim=1).values[:, -1:]
    nearer = scores > last + rounding
    tied = (scores - last).abs_() <= rounding
    places_left = k - nearer.sum(dim=1, keepdim=True)
    return nearer + tied * (places_left / tied.sum(dim=1, keepdim=True, dtype=scores.dtype))
