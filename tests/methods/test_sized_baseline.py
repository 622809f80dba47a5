from __future__ import annotations

import warnings
from typing import Any

import pytest
import scipy.stats
import torch

import harness
from tests.support import literal


def fit(method: str, x: torch.Tensor, seed: int = 0, **params: Any) -> harness.Decomposition:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="itda: the (dictionary was full|mean of the rows)")
        return harness.fit(harness.create("method", method, **params), x, seed=seed)


@pytest.mark.parametrize("source", ["rows", "kmeans"])
@pytest.mark.parametrize("params", [{"threshold": 0.02}, {"threshold": 0.02, "centre": False}, {"max_atoms": 20}])
def test_has_as_many_latents_as_itda(source: str, params: dict[str, Any]) -> None:
    x = literal.mixture(700) - 1
    shared: dict[str, Any] = {"k": 4, "max_atoms": 400, "batch_rows": 100} | params
    itda, sized = fit("itda", x, **shared), fit("sized_baseline", x, source=source, **shared)
    assert sized.n_latents == itda.n_latents >= 20
    plain = {"k": 4, "n_latents": itda.n_latents, "centre": params.get("centre", True)}
    if source == "kmeans":
        assert torch.equal(sized.dictionary, fit("kmeans", x, **plain).dictionary)
    else:
        sources = x[sized.atoms["position"].tolist()]
        sources = sources - (x.mean(dim=0) if plain["centre"] else 0)
        assert torch.allclose(sized.dictionary, sources / sources.norm(dim=1, keepdim=True), atol=1e-9)


def test_every_row_is_as_likely() -> None:
    x = literal.mixture(2000, d=8).float()
    counts = torch.zeros(10)
    for seed in range(20):
        positions = torch.tensor(fit("sized_baseline", x, seed, k=4, max_atoms=1000).atoms["position"].tolist())
        assert len(positions.unique()) == len(positions) > 5
        counts += torch.bincount(positions // 200, minlength=10)
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 0.01


def test_itda_s_parameters_are_checked() -> None:
    with pytest.raises(harness.ConfigError, match="threshold is 2"):
        harness.create("method", "sized_baseline", k=4, max_atoms=10, threshold=2.0)
