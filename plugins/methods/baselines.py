"""The two ends of every scale: `identity` keeps everything, `mean` keeps nothing but the mean."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness


class Identity:
    """Learns nothing: each coordinate of the activations is a latent."""

    passes = 1
    batch_rows = 4096

    def __init__(self, config: object) -> None:
        pass

    def start(self, info: harness.Info) -> None:
        self._info = info

    def partial_fit(self, batch: harness.Batch) -> None:
        pass

    def finish(self) -> harness.Decomposition:
        return IdentityDecomposition(torch.ones(self._info.width, dtype=self._info.dtype, device=self._info.device))


class IdentityDecomposition(harness.Decomposition):
    """The identity: codes are the row itself, and the reconstruction is bit-exact."""

    def __init__(self, diagonal: Float[Tensor, " d"]) -> None:
        self.diagonal = diagonal
        self.n_latents = len(diagonal)

    @property
    def dictionary(self) -> Float[Tensor, "d d"]:  # type: ignore[override]
        """The identity matrix, made when asked for, since encoding and decoding do without it."""
        return torch.diag(self.diagonal)

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(harness.working_precision(x))

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return codes.to_dense(self.n_latents)


class Mean:
    """Learns the mean of the rows."""

    passes = 1
    batch_rows = 4096

    def __init__(self, config: object) -> None:
        pass

    def start(self, info: harness.Info) -> None:
        self._n_rows = info.n_rows
        self._sum = torch.zeros(info.width, dtype=torch.float64, device=info.device)

    def partial_fit(self, batch: harness.Batch) -> None:
        self._sum += batch.x.sum(dim=0, dtype=torch.float64)

    def finish(self) -> harness.Decomposition:
        return MeanDecomposition(self._sum / self._n_rows)


class MeanDecomposition(harness.Decomposition):
    """Predicts the fit mean for every row: no latents, explained variance 0."""

    dictionary: Float[Tensor, "m d"]

    def __init__(self, mean: Float[Tensor, " d"]) -> None:
        self.mean = mean
        self.dictionary = mean.new_zeros(0, len(mean))

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(harness.working_precision(x)[:, :0])

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return harness.decode_linear(codes, self.dictionary, self.mean)
