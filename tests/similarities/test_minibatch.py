"""Minibatch CKA against its definition written out, and the kernels that its pairs share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import harness
from harness.plugins.similarities.minibatch import MINIBATCH_ROWS, MinibatchKernels
from tests.similarities.test_cka import hsic_song, related, rows

NAMES = ("p", "q", "r")
PAIRS = [("p", "q"), ("q", "r"), ("r", "p"), ("p", "p")]


def minibatch_cka():
    return harness.create("similarity", "cka", estimator="minibatch")


def literal(x: torch.Tensor, y: torch.Tensor, kept: NDArray[np.bool_] | None = None) -> float:
    """Nguyen, Raghu & Kornblith 2021, equation 3, each minibatch weighted by n(n−3)."""
    sums = np.zeros(3)
    for start in range(0, len(x), MINIBATCH_ROWS):
        part = np.arange(start, min(start + MINIBATCH_ROWS, len(x)))
        part = part if kept is None else part[kept[part]]
        if len(part) >= 4:
            k, l = (side[part].double().numpy() @ side[part].double().numpy().T for side in (x, y))  # noqa: E741
            sums += [len(part) * (len(part) - 3) * hsic_song(*pair) for pair in ((k, l), (k, k), (l, l))]
    return float(sums[0] / math.sqrt(sums[1] * sums[2]))


@pytest.mark.parametrize(("n", "d1", "d2"), [(700, 4, 7), (256, 5, 3), (300, 20, 3), (12, 20, 3)])
def test_equals_the_definition(n: int, d1: int, d2: int) -> None:
    x, y = related(n, d1, d2)
    found = minibatch_cka()(x, y)
    assert found == pytest.approx(literal(x, y), abs=1e-10)
    whole = harness.create("similarity", "cka", estimator="debiased")(x, y)
    assert (found == pytest.approx(whole, abs=1e-10)) == (n <= MINIBATCH_ROWS)


def test_rows_in_the_order_of_their_groups_lose_what_tells_groups_apart() -> None:
    """Documents count as the docstring says."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(4).repeat_interleave(MINIBATCH_ROWS)
    means = 5 * torch.randn(4, 6, generator=generator)
    x, y = (means[group] + torch.randn(len(group), 6, generator=generator) for _ in range(2))
    order = torch.randperm(len(group), generator=generator)
    assert abs(minibatch_cka()(x, y)) < 0.05
    assert minibatch_cka()(x[order], y[order]) > 0.8


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, 599), max_size=5), share=st.sampled_from([0, 0.02, 1]))
def test_each_pair_is_itself_whatever_the_blocks_and_the_masks_of_others(seed: int, cuts: set[int], share: float):
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(600, d, generator=generator) + 50 for name, d in zip(NAMES, (4, 3, 5), strict=True)}
    x["r"] += x["p"] @ torch.ones(4, 5)
    masked = {name: torch.rand(600, generator=generator) < share * (name != "q") for name in NAMES}
    for name in NAMES:
        x[name][masked[name]] = float("nan")
    kernels = MinibatchKernels(PAIRS)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 600], strict=True):
        part = slice(start, stop)
        block = {name: rows[part].clone() for name, rows in x.items()}
        kernels.update(block, {name: mask[part] for name, mask in masked.items()})
        for lent in block.values():
            lent.fill_(7.0)
    for one, other in PAIRS:
        kept = ~(masked[one] | masked[other]).numpy()
        if not kept.any():
            assert kernels.pair(one, other).n_rows == 0
            with pytest.raises(harness.Undefined):
                minibatch_cka().compute_from(kernels.pair(one, other))
            continue
        found = minibatch_cka().compute_from(kernels.pair(one, other))
        assert found == pytest.approx(literal(x[one] - 50, x[other] - 50, kept), abs=2e-6)


def test_a_large_mean_costs_no_digits() -> None:
    x, y = (side.float() for side in related(600, 6, 4))
    x, y = x + 3000, y - 3000
    x64, y64 = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    assert minibatch_cka()(x, y) == pytest.approx(literal(x64, y64), abs=1e-6)


def test_sides_may_have_scales_of_their_own() -> None:
    """Rounding error on one side is told by the norms of that side."""
    x, y = related(300, 20, 3)
    assert minibatch_cka()(1e6 * x, y) == pytest.approx(minibatch_cka()(x, y), rel=1e-6)
    assert minibatch_cka()(x, 1e6 * y) == pytest.approx(minibatch_cka()(x, y), rel=1e-6)


def test_what_is_undefined() -> None:
    x = rows(600, 4)
    constant = torch.full((600, 3), 0.1, dtype=torch.float64)
    for one, other in ((x, constant), (constant.float(), x), (torch.eye(10), rows(10, 3)), (x[:3], x[:3])):
        with pytest.raises(harness.Undefined):
            minibatch_cka()(one, other)
    with pytest.raises(harness.Undefined, match="leave the range"):
        minibatch_cka()(1e80 * x, x)
    with pytest.raises(harness.ConfigError, match="kernel='linear'"):
        harness.create("similarity", "cka", kernel="rbf", estimator="minibatch")
