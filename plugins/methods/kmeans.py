"""Centroids of k-means as a dictionary: what a selection of rows has to beat."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.methods import KMeansConfig
from plugins.methods.linear import centred
from plugins.methods.matching_pursuit import PursuitDecomposition, unit_rows

# Of the rows, which are all held at once.
MAX_BYTES = 8 * 2**30
# On SmolLM2-135M, layer 15 (50k rows, 4,096 latents, k 40, mean removed), FVU of held-out rows was .161 for random rows,
# .1448, .1426, .1424 and .1419 after 2, 4, 8 and 16 iterations. k-means++ as a start took longer than these all.
_ITERATIONS = 4


class KMeans:
    """Lloyd's k-means of scikit-learn over all rows of the stream, from distinct random rows; centroids at unit norm.

    Rows of norm 0 have no direction and are not clustered.
    """

    passes = 1
    batch_rows = 2048

    def __init__(self, config: KMeansConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        self._info = info
        self._require(info.n_rows)
        n_bytes = info.n_rows * info.width * info.dtype.itemsize
        if n_bytes > MAX_BYTES:
            raise harness.ConfigError(
                f"kmeans: {info.n_rows} rows of width {info.width} take {n_bytes / 2**30:.3g} GiB, and all must be in "
                f"memory at once; the bound is {MAX_BYTES / 2**30:.3g} GiB. Fit it on fewer tokens."
            )
        self._mean = info.mean() if self.config.centre else None
        self._rows = torch.empty(info.n_rows, info.width, dtype=info.dtype)
        self._n_rows = 0

    def partial_fit(self, batch: harness.Batch) -> None:
        x = centred(batch.x, self._mean)
        x = x[x.any(dim=1)]
        self._rows[self._n_rows : self._n_rows + len(x)] = x
        self._n_rows += len(x)

    def finish(self) -> harness.Decomposition:
        self._require(self._n_rows)
        seed = int(torch.randint(2**31, (), generator=self._info.generator("centroids")))
        centroids = _cluster(self._rows[: self._n_rows], self.config.n_latents, seed).to(self._info.device)
        return PursuitDecomposition(unit_rows(centroids), self.config.k, self._mean)

    def _require(self, n_rows: int) -> None:
        if n_rows < self.config.n_latents:
            raise harness.Undefined(
                f"kmeans: n_latents is {self.config.n_latents}, but the stream has only {n_rows} usable rows (rows of "
                "norm 0 are not used). Give fewer latents or more text."
            )


def _cluster(x: Float[Tensor, "n d"], n_clusters: int, seed: int) -> Float[Tensor, "m d"]:
    """The centroids; `x` may be written to."""
    try:  # here, so that all else runs without it
        from sklearn.cluster import KMeans as Lloyd
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise harness.ConfigError("kmeans needs scikit-learn: pip install scikit-learn.") from error
    lloyd = Lloyd(n_clusters, init="random", n_init=1, max_iter=_ITERATIONS, random_state=seed, copy_x=False)
    # Threads add up their sums as they come: with more than two, the order of a sum and its rounding vary.
    with threadpool_limits(2, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            lloyd.fit(x.numpy())
        except ConvergenceWarning as error:
            raise harness.ConfigError(f"kmeans: n_latents is {n_clusters}, but {error} Give fewer.") from error
    return torch.from_numpy(lloyd.cluster_centers_)
