"""Principal component analysis by the eigenvectors of a covariance that is gathered from the stream."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods import PCAConfig
from harness.plugins.methods.linear import fix_signs, k_largest


class PCA:
    """PCA in one pass over the rows.

    With s the mean of the first batch, it sums y = x − s and y·yᵀ in float64 and takes

        μ = s + Σy/n,    C = (Σ y·yᵀ − Σy·Σyᵀ/n) / n.

    The shift keeps C right where the mean is far larger than the deviations (Chan, Golub & LeVeque 1983).
    """

    passes = 1
    batch_rows = 2048

    def __init__(self, config: PCAConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        if self.config.n_components > info.width:
            raise harness.Undefined(
                f"pca: n_components is {self.config.n_components}, but the activations have only {info.width} "
                f"dimensions. Give {info.width} or fewer."
            )
        self._n_rows, self._dtype = info.n_rows, info.dtype
        self._shift: Tensor | None = None
        self._sum = torch.zeros(info.width, dtype=torch.float64, device=info.device)
        self._products = torch.zeros(info.width, info.width, dtype=torch.float64, device=info.device)

    def partial_fit(self, batch: harness.Batch) -> None:
        x = batch.x.double()
        if self._shift is None:
            self._shift = x.mean(dim=0)
        y = x - self._shift
        self._sum += y.sum(dim=0)
        self._products.addmm_(y.T, y)

    def finish(self) -> harness.Decomposition:
        assert self._shift is not None  # a stream has at least one batch
        offset = self._sum / self._n_rows
        covariance = self._products / self._n_rows - torch.outer(offset, offset)
        variances, vectors = torch.linalg.eigh(covariance)  # ascending
        components, _ = fix_signs(vectors.flip(1).T[: self.config.n_components])
        return PCADecomposition(
            components.to(self._dtype).contiguous(),
            self._shift + offset,
            variances.flip(0)[: self.config.n_components],
            self.config.k,
        )


class PCADecomposition(harness.Decomposition):
    """Coefficients of the centred row: all of them, or the k largest by magnitude."""

    dictionary: Float[Tensor, "m d"]

    def __init__(
        self,
        dictionary: Float[Tensor, "m d"],
        mean: Float[Tensor, " d"],
        variances: Float[Tensor, " m"],
        k: int | None,
    ) -> None:
        self.dictionary = dictionary
        self.mean = mean
        self.variances = variances
        """Variances of the fit rows along each component, largest first; in squared units of the activations."""
        self.k = k

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        x = harness.working_precision(x)
        # The mean is kept in float64: its own rounding in float32 would shift every row by the same amount.
        coefficients = (x - self.mean).to(x.dtype) @ self.dictionary.T.to(x.dtype)
        return k_largest(coefficients, self.k)

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return harness.decode_linear(codes, self.dictionary, self.mean)
