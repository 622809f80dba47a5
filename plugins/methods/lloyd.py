"""K-means on a card: distances by one matrix product a block, and no wait for the card inside a loop over blocks.

`kmeans` draws its starts from the same numbers here as on a CPU, and iterates by the rules of scikit-learn, which does
it there. Starts differ only where rounding in float64 decides, so centroids are the same but for rounding and for rows
that are as near to one as to another to the digits of their dtype.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_ROWS = 2**15
_BLOCK_ENTRIES = 2**25
"""Distances of a block to all centroids that are held at once."""
# Squared distances below this many rounding errors of the squared norms may be off by as much as they are.
DOUBTFUL = 2**20 * torch.finfo(torch.float64).eps
_FEW_ROWS = 2048
_SAME = 1e-4
"""Share of the mean variance of a column below which centroids count as still; scikit-learn's `tol`."""


def lower_distances(
    distances: Float[Tensor, " n"], x: Float[Tensor, "n d"], mean: Float[Tensor, " d"], starts: Float[Tensor, "s d"]
) -> None:
    """Lower squared distances, in place, to those to the nearest start where that is nearer.

    Args:
        distances: in float64.
        x: the rows.
        mean: of the rows, in float64.
        starts: rows minus the mean.
    """
    squares, doubtful = starts.square().sum(dim=1), torch.empty(len(x), dtype=torch.bool, device=x.device)
    parts = zip(*(each.split(BLOCK_ROWS) for each in (x, distances, doubtful)), strict=True)
    for rows, nearest, is_doubtful in parts:
        around = rows - mean
        norms = around.square().sum(dim=1)[:, None] + squares
        found = torch.addmm(norms, around, starts.T, alpha=-2)
        torch.any(found < DOUBTFUL * norms, dim=1, out=is_doubtful)
        found.masked_fill_(is_doubtful[:, None], torch.inf)
        torch.minimum(nearest, found.amin(dim=1), out=nearest)
    for places in doubtful.nonzero().flatten().split(_FEW_ROWS):  # by differences, as products leave no digits
        mode = "donot_use_mm_for_euclid_dist"
        found = torch.cdist(x[places] - mean, starts, compute_mode=mode).square()
        distances[places] = torch.minimum(distances[places], found.amin(dim=1))


def lloyd(x: Float[Tensor, "n d"], starts: Int[Tensor, " m"], n_iterations: int) -> Float[Tensor, "m d"]:
    """The centroids, from the rows at these places; `x` is written to."""
    mean = x.mean(dim=0, dtype=torch.float64).to(x.dtype)
    x -= mean
    still = _SAME * float(x.var(dim=0, correction=0).mean())
    centroids = x[starts]
    for _ in range(n_iterations):
        nearest, distances = _assign(x, centroids)
        new = _means(x, nearest, distances, len(centroids))
        shift = float((new - centroids).square().sum())
        centroids = new
        if shift <= still:
            break
    return centroids + mean


def _assign(x: Float[Tensor, "n d"], centroids: Float[Tensor, "m d"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The nearest centroid of each row, and ‖c‖² − 2 x·c, which is the squared distance less ‖x‖²."""
    nearest = torch.empty(len(x), dtype=torch.long, device=x.device)
    distances, squares = x.new_empty(len(x)), centroids.square().sum(dim=1)
    block_rows = _block_rows(len(centroids))
    for rows, *found in zip(*(each.split(block_rows) for each in (x, distances, nearest)), strict=True):
        torch.min(torch.addmm(squares, rows, centroids.T, alpha=-2), dim=1, out=tuple(found))
    return nearest, distances


def _means(
    x: Float[Tensor, "n d"], nearest: Int[Tensor, " n"], distances: Float[Tensor, " n"], n_clusters: int
) -> Float[Tensor, "m d"]:
    """The mean of the rows of each cluster; one without rows takes the row that is farthest from its centroid.

    Sums are products with the indicators of clusters: adding rows up where they belong would add them in any order.
    """
    sums = x.new_zeros(n_clusters, x.shape[1], dtype=torch.float64)
    block_rows = _block_rows(n_clusters)
    for rows, own in zip(x.split(block_rows), nearest.split(block_rows), strict=True):
        indicators = torch.zeros(len(rows), n_clusters, dtype=torch.float64, device=x.device)
        sums.addmm_(indicators.scatter_(1, own[:, None], 1).T, rows.double())
    sizes = nearest.bincount(minlength=n_clusters)
    empty = (sizes == 0).nonzero().flatten()
    if len(empty):
        far = (distances + x.square().sum(dim=1)).topk(len(empty)).indices
        sums[empty] = x[far].double()
        sums.index_put_((nearest[far],), -x[far].double(), accumulate=True)
        sizes[empty] = 1
        sizes -= nearest[far].bincount(minlength=n_clusters)
    return (sums / sizes.clamp(min=1)[:, None]).to(x.dtype)


def _block_rows(n_clusters: int) -> int:
    return max(1, min(BLOCK_ROWS, _BLOCK_ENTRIES // n_clusters))
