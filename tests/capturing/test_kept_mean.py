"""The mean of rows that pass but once, of which the norms of all say which are masked."""

from __future__ import annotations

import pytest
import torch

from harness.capturing import kept_mean
from harness.capturing.kept_mean import KeptMean, PassingMean

X = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).bfloat16()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_mean, "BLOCK_ROWS", 64)


def added(mean: PassingMean, *parts: torch.Tensor) -> PassingMean:
    for x in parts:
        mean.add(x)
    return mean


def norms(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)


def test_a_mean_has_the_same_bits_however_its_rows_arrive() -> None:
    x = X.float() * 1e3 + 1
    means = []
    for sizes in ([500], [1, 499], [64] * 7 + [52], [99, 300, 101]):
        mean = KeptMean()
        for part in x.split(sizes):
            mean.add(part)
        means.append(mean.value())
    assert all(torch.equal(mean, means[0]) for mean in means)
    torch.testing.assert_close(means[0], x.double().mean(dim=0), rtol=1e-12, atol=0)


def test_rows_that_are_masked_are_left_out() -> None:
    x = X.clone()
    x[[3, 77, 400]] *= 1000
    x[5, 2] = float("nan")
    found = added(PassingMean(10.0), *x.split(100)).value(norms(x))
    kept = [i for i in range(500) if i not in (3, 77, 400, 5)]
    torch.testing.assert_close(found, x[kept].double().mean(dim=0), rtol=1e-12, atol=0)


def test_there_is_no_mean_if_the_first_rows_mislead() -> None:
    x = torch.cat([X[:100] / 100, X[100:]])
    assert added(PassingMean(10.0), *x.split(100)).value(norms(x)) is None
    known = PassingMean(10.0, max_norm=1e6)
    assert added(known, x).value(norms(x)) is not None


def test_there_is_no_mean_of_some_of_the_rows_or_of_none() -> None:
    assert added(PassingMean(10.0), X[100:]).value(norms(X)) is None
    assert added(PassingMean(10.0)).value(norms(X)) is None
    broken = X * float("inf")
    assert added(PassingMean(10.0), broken).value(norms(broken)) is None
