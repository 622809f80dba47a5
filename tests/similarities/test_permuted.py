"""Values of many pairings of the same rows: each is the value of that pairing alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import harness
from harness.plugins.similarities.centred_moments import Scatter
from harness.plugins.similarities.moments import JointMoments

PERMUTABLE = [
    ("cka", {}),
    ("cka", {"estimator": "debiased"}),
    ("cka", {"kernel": "rbf"}),
    ("cka", {"kernel": "rbf", "estimator": "debiased"}),
    ("svcca", {}),
    ("svcca", {"variance": 1.0}),
    ("pwcca", {}),
    ("procrustes", {}),
    ("linear_regression", {}),
    ("mutual_knn", {"k": 5}),
    ("rsa", {}),
    ("rsa", {"n_rows": 100, "dissimilarity": "euclidean"}),
]


def _rows(dtype: torch.dtype, n: int = 600, d1: int = 70, d2: int = 66) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d1, generator=generator) + 30
    y = torch.tanh(x[:, :d2] - 30) + torch.randn(n, d2, generator=generator) - 5
    return x.to(dtype), y.to(dtype)


def _orders(n: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.arange(n), *(torch.randperm(n, generator=generator) for _ in range(count - 1))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "params"), PERMUTABLE)
def test_they_are_those_of_each_pairing_alone(name: str, params: dict[str, Any], dtype: torch.dtype) -> None:
    x, y = _rows(dtype)
    before = x.clone(), y.clone()
    metric = harness.create("similarity", name, **params)
    assert isinstance(metric, harness.Permutable)
    orders = _orders(len(y))
    found = list(metric.permuted(x, y, orders))
    wanted = [metric(x, y[order]) for order in orders]
    assert found == pytest.approx(wanted, abs=2e-6 if dtype is torch.float32 else 1e-10)
    assert len({round(value, 4) for value in found}) > 1  # the pairing matters
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


def test_a_pairing_in_doubt_is_multiplied_in_float64() -> None:
    """A rotated copy is at no distance; products in float32 would leave 3e-4 of it."""
    x = torch.randn(600, 70, generator=torch.Generator().manual_seed(3))
    x[:, 0] *= 100
    rotation = torch.linalg.qr(torch.randn(70, 70, generator=torch.Generator().manual_seed(2)))[0]
    (found,) = harness.create("similarity", "procrustes").permuted(x, x @ rotation, [torch.arange(len(x))])
    assert found < 2e-6


def test_what_is_of_one_side_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the rows for sums in float64 and one set of eigenvectors a side, however many pairings."""
    counts = {"update": 0, "eigen": 0}
    update, eigen = JointMoments.update, Scatter.eigen.func

    def counting(self: JointMoments, *arguments: Any) -> None:
        counts["update"] += 1
        update(self, *arguments)

    def counting_eigen(self: Scatter) -> Any:
        counts["eigen"] += 1
        return eigen(self)

    monkeypatch.setattr(JointMoments, "update", counting)
    monkeypatch.setattr(Scatter.eigen, "func", counting_eigen)
    x, y = _rows(torch.float32)
    list(harness.create("similarity", "svcca").permuted(x, y, _orders(len(y), 10)))
    assert counts == {"update": 1, "eigen": 2}


def test_sides_without_a_value_have_none_in_any_pairing() -> None:
    x, y = _rows(torch.float64, n=30)
    for name in ("cka", "procrustes"):
        with pytest.raises(harness.Undefined):
            list(harness.create("similarity", name).permuted(torch.ones_like(x), y, _orders(30)))
