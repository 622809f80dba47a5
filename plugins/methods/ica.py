"""Independent component analysis: directions along which the rows are as far from Gaussian as can be."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods import ICAConfig
from harness.plugins.methods.held_rows import HeldRows
from harness.plugins.methods.linear import fix_signs, k_largest

# Rows that are whitened at once, in float64.
_CHUNK_ROWS = 8192


class ICA:
    """FastICA (Hyvärinen & Oja 2000; scikit-learn's, symmetric, log cosh) over all rows of the stream.

    With C = V·Λ·Vᵀ the covariance and its m largest eigenvalues, rows are whitened to z = Λ^(−1/2)·Vᵀ·(x − μ), and
    FastICA finds W such that the entries of s = W·z are as independent as can be. Then x ≈ μ + V·Λ^(1/2)·W⁻¹·s: the
    columns of that matrix are the dictionary. They are brought to unit norm and the norms go into the codes, which so
    are in units of the activations; largest variance first. Mean, covariance and whitening are in float64, since
    small eigenvalues are divided by; FastICA itself in the precision of the rows.
    """

    passes = 1
    batch_rows = 2048

    def __init__(self, config: ICAConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        n = self.config.n_components
        if n > min(info.width, info.n_rows - 1):
            raise harness.Undefined(
                f"ica: n_components is {n}, but {info.n_rows} rows of width {info.width} vary in no more than "
                f"{min(info.width, info.n_rows - 1)} dimensions. Give fewer components or more text."
            )
        self._info = info
        self._rows = HeldRows("ica", info, also_per_row=2 * n)

    def partial_fit(self, batch: harness.Batch) -> None:
        self._rows.add(batch.x)

    def finish(self) -> harness.Decomposition:
        n, info = self.config.n_components, self._info
        mean = self._rows.x.mean(dim=0, dtype=torch.float64)
        variances, axes = self._principal_axes(mean)
        scales = variances.sqrt()[:, None]
        whitening = axes / scales
        parts = self._rows.x.split(_CHUNK_ROWS)
        whitened = torch.cat([((rows - mean) @ whitening.T).to(info.dtype) for rows in parts])
        start = torch.randn(n, n, generator=info.generator("unmixing"), dtype=torch.float64)
        unmixing = _fast_ica(whitened, start, self.config.max_iterations)
        directions = torch.linalg.inv(unmixing).T @ (scales * axes)
        norms = torch.linalg.vector_norm(directions, dim=1)
        order = norms.argsort(descending=True)  # of sources with variance 1
        dictionary, signs = fix_signs((directions / norms[:, None])[order])
        encoder = ((unmixing @ whitening) * norms[:, None])[order] * signs
        dictionary, encoder = (tensor.to(info.device, info.dtype).contiguous() for tensor in (dictionary, encoder))
        return ICADecomposition(dictionary, encoder, mean.to(info.device), self.config.k)

    def _principal_axes(self, mean: Float[Tensor, " d"]) -> tuple[Float[Tensor, " m"], Float[Tensor, "m d"]]:
        """The largest eigenvalues of the covariance and their eigenvectors."""
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for rows in self._rows.x.split(_CHUNK_ROWS):
            covariance.addmm_((rows - mean).T, rows - mean, alpha=1 / len(self._rows))
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        # What rows and sums may be off by: a direction that varies no more than that has no independent component.
        rounding = torch.finfo(self._info.dtype).eps ** 2 * (mean @ mean + values.sum())
        noise = max(float(rounding), len(mean) * torch.finfo(torch.float64).eps * float(values[-1]))
        rank = int((values > noise).sum())
        if rank < self.config.n_components:
            raise harness.Undefined(
                f"ica: n_components is {self.config.n_components}, but the rows vary in only {rank} dimensions. Give "
                f"{rank} or fewer."
            )
        n = self.config.n_components
        axes, _ = fix_signs(vectors.flip(1).T[:n])  # FastICA starts from them
        return values.flip(0)[:n], axes


def _fast_ica(z: Float[Tensor, "n m"], start: Float[Tensor, "m m"], max_iterations: int) -> Float[Tensor, "m m"]:
    """The matrix W of s = W·z, in float64."""
    try:  # here, so that all else runs without it
        from sklearn import decomposition
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise harness.ConfigError("ica needs scikit-learn: pip install scikit-learn.") from error
    found = decomposition.FastICA(whiten=False, w_init=start.to(z.dtype).numpy(), max_iter=max_iterations)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found.fit(z.numpy())
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        warnings.warn(
            f"ica: no convergence in {max_iterations} iterations; the components are not the most independent ones. "
            "Raise max_iterations, give fewer components, or more text.",
            RuntimeWarning,
            stacklevel=2,
        )
    return torch.from_numpy(found.components_).double()


class ICADecomposition(harness.Decomposition):
    """Coefficients of the centred row: all of them, or the k largest by magnitude.

    Directions are not orthogonal, so the k largest are not the best k, as they are for principal components.
    """

    dictionary: Float[Tensor, "m d"]

    def __init__(
        self,
        dictionary: Float[Tensor, "m d"],
        encoder: Float[Tensor, "m d"],
        mean: Float[Tensor, " d"],
        k: int | None,
    ) -> None:
        self.dictionary = dictionary
        self.encoder = encoder
        self.mean = mean
        self.k = k

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        x = harness.working_precision(x)
        # The mean is kept in float64: its own rounding in float32 would shift every row by the same amount.
        coefficients = (x - self.mean).to(x.dtype) @ self.encoder.T.to(x.dtype)
        return k_largest(coefficients, self.k)

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return harness.decode_linear(codes, self.dictionary, self.mean)
