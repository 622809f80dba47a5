from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch

import harness
from tests.support import literal


def fit(x: torch.Tensor, seed: int = 0, **params: Any) -> harness.Decomposition:
    return harness.fit(harness.create("method", "random_dictionary", **({"centre": False} | params)), x, seed=seed)


def test_every_row_is_as_likely() -> None:
    x = literal.mixture(5000, d=8)  # three batches
    counts = torch.zeros(20)
    for seed in range(40):
        positions = torch.tensor(fit(x, seed, n_latents=100, k=2).atoms["position"].tolist())
        assert len(positions.unique()) == 100  # without replacement
        counts += torch.bincount(positions // 250, minlength=20)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 0.01


def test_atoms_are_rows_and_their_identity_leads_back(tmp_path: Path) -> None:
    x = literal.mixture(3000).float()
    decomposition = fit(x, n_latents=50, k=4)
    sources = x[decomposition.atoms["position"].tolist()]
    assert torch.allclose(decomposition.dictionary, sources / sources.norm(dim=1, keepdim=True))
    assert decomposition.n_candidates == 3000
    decomposition.save(tmp_path)
    loaded = harness.load(tmp_path)
    assert torch.equal(loaded.encode(x).values, decomposition.encode(x).values)


def test_zero_rows_are_not_drawn() -> None:
    x = literal.mixture(100)
    x[::2] = 0
    decomposition = fit(x, n_latents=50, k=2)
    assert sorted(decomposition.atoms["position"]) == list(range(1, 100, 2))
    with pytest.raises(harness.Undefined, match="only 50 usable rows"):
        fit(x, n_latents=51, k=2)


def test_too_few_rows_is_said_before_the_pass() -> None:
    learner = harness.create("method", "random_dictionary", n_latents=11, k=2)
    info = harness.Info(4, 10, 0, torch.device("cpu"), torch.float32, mean=lambda: torch.zeros(4))
    with pytest.raises(harness.Undefined, match="n_latents is 11, but the stream has only 10"):
        learner.start(info)


def test_gaussian_directions() -> None:
    x = literal.mixture(10).float()
    decomposition = fit(x, n_latents=2000, k=2, source="gaussian")
    assert decomposition.atoms is None
    directions = decomposition.dictionary
    assert torch.allclose(directions.norm(dim=1), torch.ones(2000))
    # Uniform on the sphere: mean 0 and covariance I/d.
    assert directions.mean(dim=0).abs().max() < 5 / (32 * 2000) ** 0.5
    assert torch.allclose(directions.T @ directions / 2000, torch.eye(32) / 32, atol=0.005)


def test_seeds_differ_and_the_global_generator_is_untouched() -> None:
    x = literal.mixture(100)
    state = torch.get_rng_state()
    for source in ("rows", "gaussian"):
        first, again, other = (fit(x, seed, n_latents=9, k=2, source=source).dictionary for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("source", ["rows", "gaussian"])
def test_centring_is_all_that_differs_and_the_mean_is_added_back(source: str) -> None:
    x = literal.mixture(300) + 50
    centred = fit(x, n_latents=40, k=6, source=source, centre=True)
    plain = fit(x - x.mean(dim=0), n_latents=40, k=6, source=source)
    assert torch.allclose(centred.dictionary, plain.dictionary, atol=1e-9)
    expected = plain.decode(plain.encode(x - x.mean(dim=0))) + x.mean(dim=0)
    assert torch.allclose(centred.decode(centred.encode(x)), expected, atol=1e-9)
