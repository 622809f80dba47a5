from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.decomposition
import torch

import harness
from tests.support import literal


def fit(x: torch.Tensor, n_components: int, k: int | None = None) -> harness.Decomposition:
    return harness.fit(harness.create("method", "pca", n_components=n_components, k=k), x)


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_components_are_those_of_the_svd(offset: float) -> None:
    x = (literal.mixture(5000) + offset).float()  # three batches
    pca = fit(x, 10)
    centred = x.double().numpy() - x.double().numpy().mean(axis=0)
    _, singular, vt = np.linalg.svd(centred, full_matrices=False)
    cosines = np.abs((pca.dictionary.double().numpy() * vt[:10]).sum(axis=1))
    assert np.allclose(cosines, 1, atol=1e-5)
    assert np.allclose(pca.variances.numpy(), singular[:10] ** 2 / len(x), rtol=1e-6)
    assert np.allclose(pca.mean.numpy(), x.double().numpy().mean(axis=0), rtol=1e-12)


def test_codes_are_those_of_sklearn() -> None:
    x = literal.mixture(1000)
    pca, theirs = fit(x, 6), sklearn.decomposition.PCA(6).fit(x.numpy())
    signs = np.sign((theirs.components_ * pca.dictionary.numpy()).sum(axis=1))
    assert np.allclose(pca.encode(x).values.numpy(), theirs.transform(x.numpy()) * signs, atol=1e-8)
    reconstruction = pca.decode(pca.encode(x)).numpy()
    assert np.allclose(reconstruction, theirs.inverse_transform(theirs.transform(x.numpy())), atol=1e-8)


def test_the_largest_coefficients_are_kept() -> None:
    x = literal.mixture(200)
    dense, sparse = fit(x, 32).encode(x), fit(x, 32, k=5).encode(x)
    assert sparse.indices is not None and sparse.indices.shape == (200, 5)
    kept = dense.values.abs().topk(5).indices
    expected = torch.zeros_like(dense.values).scatter(1, kept, dense.values.gather(1, kept))
    assert torch.allclose(sparse.to_dense(), expected, atol=1e-12)
    leading = fit(x, 5).encode(x).values  # the first five instead, what this is not
    assert not torch.allclose(sparse.to_dense()[:, :5], leading, atol=1e-3)


def test_all_components_give_the_row_back() -> None:
    x = literal.mixture(300)
    pca = fit(x, 32)
    assert torch.allclose(pca.decode(pca.encode(x)), x, atol=1e-10)
    assert torch.allclose(pca.dictionary @ pca.dictionary.T, torch.eye(32, dtype=torch.float64), atol=1e-12)


def test_signs_do_not_depend_on_the_solver() -> None:
    x = literal.mixture(300)
    largest = fit(x, 32).dictionary.gather(1, fit(x, 32).dictionary.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()


def test_round_trip(tmp_path: Path) -> None:
    x = literal.mixture(300).half()
    pca = fit(x, 8, k=3)
    pca.save(tmp_path)
    loaded = harness.load(tmp_path)
    assert torch.equal(loaded.encode(x).values, pca.encode(x).values)
    assert loaded.encode(x).values.dtype == torch.float32
    assert torch.equal(loaded.decode(loaded.encode(x)), pca.decode(pca.encode(x)))


def test_more_components_than_dimensions() -> None:
    with pytest.raises(harness.Undefined, match=r"n_components is 33.*only 32 dimensions"):
        fit(literal.mixture(50), 33)


@pytest.mark.parametrize("k", [0, 9])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(harness.ConfigError, match="k is"):
        fit(literal.mixture(50), 8, k=k)
