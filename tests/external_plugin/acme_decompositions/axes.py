"""Latents are the coordinate axes: a baseline that asks how sparse the residual stream is as it stands."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from acme_decompositions import AxesConfig


class AxesDecomposition(harness.Decomposition):
    """Attributes that are tensors or JSON values are the state; the harness saves and loads them."""

    def __init__(self, mean: Float[Tensor, " d"], k: int) -> None:
        self.mean = mean
        self.k = k

    @property
    def dictionary(self) -> Float[Tensor, "d d"]:
        return torch.eye(len(self.mean), device=self.mean.device)

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        centred = x - self.mean
        indices = centred.abs().topk(self.k, dim=1).indices
        return harness.Codes(centred.gather(1, indices), indices, n_latents=len(self.mean))

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return codes.to_dense() + self.mean


class Axes:
    """Learns the mean of the rows in one pass, summed in float64."""

    passes = 1
    batch_rows = 2048

    def __init__(self, config: AxesConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        if self.config.k > info.width:
            raise harness.ConfigError(f"acme_axes: k is {self.config.k}, but rows have only {info.width} coordinates.")
        self.sum = torch.zeros(info.width, dtype=torch.float64, device=info.device)
        self.n_rows = 0

    def partial_fit(self, batch: harness.Batch) -> None:
        self.sum += batch.x.double().sum(dim=0)
        self.n_rows += len(batch.x)

    def finish(self) -> AxesDecomposition:
        return AxesDecomposition((self.sum / self.n_rows).float(), self.config.k)
