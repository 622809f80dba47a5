"""Centroids of k-means as a dictionary: the baseline that a selection of rows has to beat."""

from __future__ import annotations

import math
import warnings
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods import KMeansConfig
from harness.plugins.methods.held_rows import HeldRows
from harness.plugins.methods.linear import centred
from harness.plugins.methods.lloyd import BLOCK_ROWS, DOUBTFUL, lloyd, lower_distances
from harness.plugins.methods.matching_pursuit import PursuitDecomposition, unit_rows

# Held-out FVU on SmolLM2-135M, layer 15 (50k rows, 4,096 latents, k 40, mean removed), where random rows have .161:
# from random rows 2, 4, 8 and 16 iterations give .145, .143, .142 and .142; from rows drawn far apart 4 give .138; from
# k-means++, which draws one at a time, 8 give .136 in several times as long.
_ITERATIONS = 4
_ROUNDS = 16
_BLOCK_ROWS = 2048
# Largest rounding error of a squared distance in float32, against the median distance to the nearest start.
_MAX_ERROR = 1e-3
_SMALLEST_EXPONENT = -120


class KMeans:
    """Lloyd's k-means of scikit-learn over all rows of the stream, from rows far apart; centroids at unit norm.

    Rows of norm 0 have no direction and are not clustered. A card that holds the rows does it all: see `lloyd` for what
    its centroids and those of a CPU have in common.
    """

    passes = 1
    batch_rows = 2048

    def __init__(self, config: KMeansConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        self._info = info
        self._require(info.n_rows)
        self._rows = HeldRows("kmeans", info, on_card=True)
        self._mean = info.mean() if self.config.centre else None

    def partial_fit(self, batch: harness.Batch) -> None:
        x = centred(batch.x, self._mean)
        self._rows.add(x[x.any(dim=1)])

    def finish(self) -> harness.Decomposition:
        self._require(len(self._rows))
        x = self._rows.x
        # To about 1, exactly: squares of rows of any scale are then in the range of float32, and centroids lose it.
        exponent = math.frexp(float(x.abs().max()))[1]
        x.mul_(math.ldexp(1.0, -max(exponent, _SMALLEST_EXPONENT)))
        starts, distances = _draw_far_apart(x, self.config.n_latents, self._info.generator("starts"))
        found = _lloyd if x.device.type == "cpu" else partial(lloyd, n_iterations=_ITERATIONS)
        centroids = found(_precise_enough(x, distances), starts).to(self._info.device, self._info.dtype)
        return PursuitDecomposition(unit_rows(centroids), self.config.k, self._mean)

    def _require(self, n_rows: int) -> None:
        if n_rows < self.config.n_latents:
            raise harness.Undefined(
                f"kmeans: n_latents is {self.config.n_latents}, but the stream has only {n_rows} usable rows (rows of "
                "norm 0 are not used). Give fewer latents or more text."
            )


def _draw_far_apart(
    x: Float[Tensor, "n d"], n_drawn: int, generator: torch.Generator
) -> tuple[Int[Tensor, " m"], Float[Tensor, " n"]]:
    """Places of rows drawn in rounds, each in proportion to the squared distance to the nearest one drawn before.

    As k-means‖ draws (Bahmani et al. 2012, Scalable K-Means++), but as many as are wanted, so that none need merging;
    and the origin counts as drawn, since rows near it need no atom.

    Returns:
        The places, and the squared distances of all rows to the nearest of them, in float64.
    """
    mean = x.mean(dim=0, dtype=torch.float64)
    distances = torch.cat([rows.double().square().sum(dim=1) for rows in x.split(_block_rows(x))])
    lower = _lower_distances if x.device.type == "cpu" else lower_distances
    drawn = []
    for part in torch.arange(n_drawn).chunk(_ROUNDS):
        # The first to come of exponential clocks with these rates are a weighted draw without replacement.
        clocks = torch.empty(len(x), dtype=torch.float64).exponential_(generator=generator).to(x.device) / distances
        new = clocks.topk(len(part), largest=False).indices
        if not distances[new].all():
            raise harness.Undefined(
                f"kmeans: n_latents is {n_drawn}, but the stream has fewer distinct rows. Give fewer latents or more "
                "text."
            )
        drawn.append(new)
        lower(distances, x, mean, x[new] - mean)
    return torch.cat(drawn), distances


def _lower_distances(
    distances: Float[Tensor, " n"], x: Float[Tensor, "n d"], mean: Float[Tensor, " d"], starts: Float[Tensor, "s d"]
) -> None:
    """Lower squared distances, in place, to those to the nearest start where that is nearer."""
    for rows, nearest in zip(x.split(_BLOCK_ROWS), distances.split(_BLOCK_ROWS), strict=True):
        torch.minimum(nearest, _squared_distances(rows - mean, starts).amin(dim=1), out=nearest)


def _squared_distances(x: Float[Tensor, "b d"], y: Float[Tensor, "s d"]) -> Float[Tensor, "b s"]:
    """Squared distances in float64 by a matrix product, and by differences where that would leave no digits."""
    norms = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    found = norms - 2 * x @ y.T
    doubtful = (found < DOUBTFUL * norms).any(dim=1)
    if doubtful.any():
        mode = "donot_use_mm_for_euclid_dist"
        found[doubtful] = torch.cdist(x[doubtful], y, compute_mode=mode).square()
    return found


def _precise_enough(x: Float[Tensor, "n d"], distances: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """The rows in float64 if float32 can't tell which of several starts is the nearest, else as they are.

    scikit-learn takes squared distances by a matrix product around the mean of the rows: in float32 nothing would be
    left of them where groups of rows, or single ones, are far from that mean and all others near each other.
    """
    mean = x.mean(dim=0, dtype=torch.float64)
    largest = float(torch.stack([(rows - mean).square().sum(dim=1).max() for rows in x.split(_block_rows(x))]).max())
    error = torch.finfo(x.dtype).eps * largest
    return x.double() if error > _MAX_ERROR * distances.median() else x


def _block_rows(x: Float[Tensor, "n d"]) -> int:
    return _BLOCK_ROWS if x.device.type == "cpu" else BLOCK_ROWS


def _lloyd(x: Float[Tensor, "n d"], starts: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
    """The centroids, from the rows at these places; `x` may be written to."""
    try:  # here, so that all else runs without it
        from sklearn import cluster
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise harness.ConfigError("kmeans needs scikit-learn: pip install scikit-learn.") from error
    lloyd = cluster.KMeans(len(starts), init=x[starts].numpy(), n_init=1, max_iter=_ITERATIONS, copy_x=False)
    # Threads add up their sums as they come: with more than two, the order of a sum and its rounding vary.
    with threadpool_limits(2, user_api="openmp"), warnings.catch_warnings():
        # A cluster may end without rows; its centroid is a direction all the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        lloyd.fit(x.numpy())
    return torch.from_numpy(lloyd.cluster_centers_)
