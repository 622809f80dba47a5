"""Tests of k-means as it is done on a card, here on the CPU: against scikit-learn's, and against what the CPU draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import cluster

import harness
from harness.plugins.methods import kmeans, lloyd
from tests.support import literal


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lloyd, "BLOCK_ROWS", 100)
    monkeypatch.setattr(lloyd, "_FEW_ROWS", 7)


def by_scikit_learn(x: torch.Tensor, starts: torch.Tensor, n_iterations: int = 4) -> torch.Tensor:
    means = cluster.KMeans(len(starts), init=x[starts].numpy(), n_init=1, max_iter=n_iterations)
    return torch.from_numpy(means.fit(x.numpy()).cluster_centers_)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("n_iterations", [1, 4, 300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_centroids_are_those_of_scikit_learn(n_iterations: int, dtype: torch.dtype) -> None:
    x = (literal.mixture(730) + 5).to(dtype)
    starts = torch.randperm(730, generator=torch.Generator().manual_seed(0))[:40]
    found = lloyd.lloyd(x.clone(), starts, n_iterations)
    assert found.dtype == dtype
    assert torch.allclose(
        found, by_scikit_learn(x, starts, n_iterations), atol=1e-9 if dtype == torch.float64 else 1e-5
    )


def test_a_cluster_without_rows_takes_the_one_that_is_farthest() -> None:
    """Starts far from all rows but one: of each two that are equal the second gets none."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 8, generator=generator, dtype=torch.float64)
    x[:3] = x[0]
    starts = torch.tensor([0, 1, 2, 50])
    for n_iterations in (1, 2):
        found = lloyd.lloyd(x.clone(), starts, n_iterations)
        assert torch.allclose(found, by_scikit_learn(x, starts, n_iterations), atol=1e-9)


def test_fewer_distinct_rows_than_clusters_leave_no_hole() -> None:
    x = torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64).repeat(50, 1)
    found = lloyd.lloyd(x.clone(), torch.tensor([0, 1, 2]), 4)
    assert found.isfinite().all()


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_starts_are_those_that_a_cpu_draws(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Near rows, equal rows and groups of rows far from each other, too."""
    generator = torch.Generator().manual_seed(0)
    far = torch.tensor([3e3, -3e3, 3e5])[torch.arange(900) % 3, None] + 0.0
    x = (far + torch.randn(900, 16, generator=generator)).float() * scale
    x[::30] = x[1]
    places, distances = kmeans._draw_far_apart(x, 128, torch.Generator().manual_seed(1))
    monkeypatch.setattr(kmeans, "_lower_distances", lloyd.lower_distances)
    again, found = kmeans._draw_far_apart(x, 128, torch.Generator().manual_seed(1))
    assert torch.equal(places, again)
    assert torch.allclose(found.sqrt(), distances.sqrt(), rtol=1e-6, atol=0)


def test_nothing_in_a_loop_waits_for_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of values are as many for ten times the blocks."""
    counts = []
    for n in (500, 5000):
        x, read = literal.mixture(n), list[int]()
        with monkeypatch.context() as patched:
            for name in ("item", "__float__", "__bool__", "nonzero", "tolist", "__int__"):
                plain = getattr(torch.Tensor, name)
                patched.setattr(
                    torch.Tensor, name, lambda x, *a, plain=plain, read=read: read.append(1) or plain(x, *a)
                )
            lloyd.lloyd(x, torch.arange(20), 2)
        counts.append(len(read))
    assert counts[0] == counts[1] <= 6


def test_fits_are_those_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    x = literal.mixture(900).float()
    wanted = harness.fit(harness.create("method", "kmeans", n_latents=60, k=2), x).dictionary
    monkeypatch.setattr(kmeans, "_lower_distances", lloyd.lower_distances)
    monkeypatch.setattr(kmeans, "_lloyd", lambda x, starts: lloyd.lloyd(x, starts, kmeans._ITERATIONS))
    found = harness.fit(harness.create("method", "kmeans", n_latents=60, k=2), x).dictionary
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.gpu
def test_a_card_gives_the_centroids_of_a_cpu() -> None:
    x = literal.mixture(5000, d=64).float()
    fits = [
        harness.fit(harness.create("method", "kmeans", n_latents=100, k=2), x.to(device)).dictionary.cpu()
        for device in ("cpu", "cuda")
    ]
    nearest = (fits[0] @ fits[1].T).amax(dim=1)
    assert np.isclose(nearest, 1, atol=1e-3).mean() > 0.97
