from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from threadpoolctl import threadpool_limits

import harness
from harness.plugins.methods import held_rows, kmeans
from tests.support import literal


def fit(x: torch.Tensor, seed: int = 0, **params: Any) -> harness.Decomposition:
    return harness.fit(harness.create("method", "kmeans", **({"centre": False} | params)), x, seed=seed)


def fvu(decomposition: harness.Decomposition, x: torch.Tensor) -> float:
    left = x - decomposition.decode(decomposition.encode(x))
    return float(left.square().sum() / (x - x.mean(dim=0)).square().sum())


def clusters(n: int, n_clusters: int, d: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows tightly around directions that are far from each other, and the mean of each cluster."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0][:n_clusters]
    number = torch.arange(n) % n_clusters
    x = centres[number] + 0.01 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.stack([x[number == i].mean(dim=0) for i in range(n_clusters)])


def test_finds_the_means_of_clusters_at_unit_norm() -> None:
    x, means = clusters(5000, n_clusters=6)  # three batches
    found = fit(x, n_latents=6, k=1).dictionary
    assert found is not None
    nearest = (found @ means.T).argmax(dim=1)
    assert nearest.unique().numel() == 6  # as random starts would hardly ever
    assert torch.allclose(found, (means / means.norm(dim=1, keepdim=True))[nearest], atol=1e-12)


def test_equals_the_textbook_iteration() -> None:
    x = literal.mixture(600, d=8)
    generator = harness.Info(8, 600, 3, x.device, x.dtype, mean=lambda: x.mean(dim=0)).generator("starts")
    centres = x[kmeans._draw_far_apart(x, 20, generator)[0]].numpy()
    for _ in range(4):
        nearest = ((x.numpy()[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack([x.numpy()[nearest == i].mean(axis=0) for i in range(20)])
    expected = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    assert np.allclose(fit(x, 3, n_latents=20, k=2).dictionary, expected, atol=1e-9)


def test_starts_are_drawn_by_squared_distance() -> None:
    """The first by squared norm, the second by squared distance to the first or the origin, whichever is nearer."""
    x = torch.tensor([[5.0, 0], [4, 3], [5, 1], [0, 5]], dtype=torch.float64)
    pairs = torch.stack([kmeans._draw_far_apart(x, 2, torch.Generator().manual_seed(i))[0] for i in range(4000)])
    norms = x.square().sum(dim=1)
    first = torch.bincount(pairs[:, 0], minlength=4)
    assert scipy.stats.chisquare(first, 4000 * norms / norms.sum()).pvalue > 0.01
    distances = torch.minimum((x - x[0]).square().sum(dim=1), norms)
    second = torch.bincount(pairs[pairs[:, 0] == 0, 1], minlength=4)
    assert second[0] == 0
    assert scipy.stats.chisquare(second[1:], second.sum() * distances[1:] / distances.sum()).pvalue > 0.01


def test_beats_random_rows() -> None:
    x = literal.mixture(60).repeat(50, 1)
    x = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for centre in (False, True):
        rows = harness.fit(harness.create("method", "random_dictionary", n_latents=100, k=2, centre=centre), x[:2400])
        assert fvu(fit(x[:2400], n_latents=100, k=2, centre=centre), x[2400:]) < 0.8 * fvu(rows, x[2400:])


def test_centring_is_all_that_differs_and_the_mean_is_added_back() -> None:
    x = literal.mixture(500) + 50
    decomposition = fit(x, n_latents=60, k=6, centre=True)
    plain = fit(x - x.mean(dim=0), n_latents=60, k=6)
    assert torch.allclose(decomposition.dictionary, plain.dictionary, atol=1e-9)
    assert torch.allclose(decomposition.mean, x.mean(dim=0), rtol=1e-12)
    assert fvu(decomposition, x) < 0.5


def test_seeds_decide_and_nothing_else_does(tmp_path: Path) -> None:
    x = literal.mixture(3000).float()
    before = x.clone()
    first, again, other = (fit(x, seed, n_latents=300, k=4) for seed in (0, 0, 1))
    assert torch.equal(first.dictionary, again.dictionary)
    assert not torch.equal(first.dictionary, other.dictionary)
    assert first.dictionary.dtype == torch.float32
    assert torch.equal(x, before)
    first.save(tmp_path)
    loaded = harness.load(tmp_path)
    assert torch.equal(loaded.decode(loaded.encode(x)), first.decode(first.encode(x)))


def test_threads_that_end_in_another_order_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")  # else scikit-learn takes no more than there are cores
    x = literal.mixture(10_000).float()
    with threadpool_limits(6, user_api="openmp"):
        first, *others = (fit(x, n_latents=250, k=2).dictionary for _ in range(4))
    assert all(torch.equal(other, first) for other in others)


def test_too_few_rows_is_said_before_the_pass() -> None:
    with pytest.raises(harness.Undefined, match="n_latents is 11, but the stream has only 10 usable"):
        fit(literal.mixture(10), n_latents=11, k=2)


def test_zero_rows_are_not_clustered() -> None:
    x = literal.mixture(100)
    x[::2] = 0
    assert torch.allclose(fit(x, n_latents=50, k=2).dictionary.norm(dim=1), torch.ones(50, dtype=torch.float64))
    with pytest.raises(harness.Undefined, match="only 50 usable"):
        fit(x, n_latents=51, k=2)


def test_fewer_distinct_rows_than_clusters_is_an_error() -> None:
    x = literal.mixture(10).repeat(5, 1)
    for rows in (x, x.float() + 100):
        with pytest.raises(harness.Undefined, match="n_latents is 11, but the stream has fewer distinct rows"):
            fit(rows, n_latents=11, k=2)
        assert fit(rows, n_latents=10, k=2).n_latents == 10


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_distances_far_from_the_origin_are_right_at_any_scale(scale: float) -> None:
    """Near rows, equal rows and groups of rows far from each other, to the digits that differences have."""
    generator = torch.Generator().manual_seed(0)
    far = torch.tensor([3e3, -3e3, 3e6])[torch.arange(900) % 3, None] + 0.0
    x = (far + torch.randn(900, 16, generator=generator)).float() * scale
    x[::30] = x[1]
    places, found = kmeans._draw_far_apart(x, 128, torch.Generator().manual_seed(1))
    assert len(x[places].unique(dim=0)) == 128
    wanted = torch.cdist(x.double(), x[places].double(), compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
    assert torch.allclose(found.sqrt() / scale, wanted / scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("width", "far"), [(16, 3e3), (64, 1e4)])
def test_a_common_mean_is_no_reason_to_refuse(width: int, far: float) -> None:
    x = torch.randn(3000, width, generator=torch.Generator().manual_seed(0)) + far / width**0.5
    assert fit(x, n_latents=128, k=4).n_latents == 128


def test_clusters_far_from_each_other_and_from_the_origin_are_told_apart() -> None:
    """In float32 the differences in a group of rows would be rounding of their distance to the mean of all."""
    x, means = clusters(3000, n_clusters=6)
    direction = torch.linspace(1, 2, 8, dtype=torch.float64)
    both = torch.cat([x + 1e5 * direction, x - 1e5 * direction]).float()
    starts, distances = kmeans._draw_far_apart(both, 12, torch.Generator().manual_seed(0))
    found = kmeans._lloyd(kmeans._precise_enough(both, distances), starts)
    wanted = torch.cat([means + 1e5 * direction, means - 1e5 * direction])
    assert (torch.cdist(wanted, found).amin(dim=1) < 0.1).all()
    assert kmeans._precise_enough(x.float(), torch.ones(3000)).dtype == torch.float32


def test_the_scale_of_rows_does_not_matter() -> None:
    x = literal.mixture(600).float()
    found = [fit(x * 2.0**exponent, n_latents=50, k=2).dictionary for exponent in (0, -100, 100)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_rows_beyond_the_bound_are_refused_before_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_rows, "MAX_BYTES", 100 * 32 * 8 - 1)
    with pytest.raises(harness.ConfigError, match="100 rows of width 32"):
        fit(literal.mixture(100), n_latents=5, k=2)
    fit(literal.mixture(99), n_latents=5, k=2)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"n_latents": 0}])
def test_bad_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(harness.ConfigError, match=next(iter(wrong))):
        harness.create("method", "kmeans", **({"k": 4, "n_latents": 10} | wrong))
