"""The compiled top-k finds what sorting finds, whatever the numbers, their precision and how many there are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.plugins.methods.cpu.largest import largest_places

DTYPES = [torch.float32, torch.bfloat16]


def _check(x: torch.Tensor, k: int) -> None:
    places = largest_places(x, k)
    assert all(row == sorted(set(row)) and len(row) == k for row in places.tolist())
    found, wanted = (
        values.clamp(min=0).sort(dim=1).values for values in (x.gather(1, places), x.topk(k, dim=1).values)
    )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k"), [(1, 1), (31, 31), (32, 5), (33, 32), (2000, 40), (2048, 64), (9216, 32)])
def test_the_largest_are_those_of_a_sort(m: int, k: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(m)
    _check(torch.randn(37, m, generator=generator).to(dtype), k)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(1, 40), st.integers(1, 5))
def test_ties_zeros_and_negative_numbers(dtype: torch.dtype, seed: int, m: int, k: int, n_values: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-n_values, n_values, (5, m), generator=generator).to(dtype)
    _check(torch.where(x == 0, -0.0, x), min(k, m))


def test_a_row_that_is_not_finite_breaks_no_other() -> None:
    x = torch.randn(3, 300)
    x[1, ::2], x[1, 1::2] = torch.nan, torch.inf
    places = largest_places(x, 40)
    assert int(places.min()) >= 0 and int(places.max()) < 300 and len(set(places[1].tolist())) == 40
    _check(x[::2].contiguous(), 40)
