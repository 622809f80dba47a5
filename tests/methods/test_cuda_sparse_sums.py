"""Sums and products of a card's kernels are those of float64, and its largest numbers are those of a stable sort."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="kernels need Triton, which there is for Linux only")

import harness
from harness.plugins.methods.cuda import sparse_largest, sparse_sums
from harness.plugins.methods.sae import fast_paths

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16]
pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning:triton"
)  # of numpy, where it interprets NaN and infinity


def on_card(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(DEVICE) for tensor in tensors)


@pytest.mark.parametrize("d", [1, 24, 130])
def test_sums_of_groups_that_are_empty_short_and_long(d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    table, weights = torch.randn(30, d, generator=generator), torch.randn(300, generator=generator)
    which, limits = torch.randint(30, (300,), generator=generator), torch.tensor([0, 0, 1, 20, 290, 300, 300])
    which[3:6], weights[100] = 7, 0  # the same row thrice, and one that counts for nothing
    groups = [slice(*pair) for pair in pairwise(limits.tolist())]
    wanted = torch.stack([weights[at].double() @ table[which[at]].double() for at in groups])
    found = sparse_sums.weighted_sums(*on_card(table, which, weights, limits)).cpu()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)
    totals = sparse_sums.totals(*on_card(weights, limits)).cpu()
    wanted = torch.stack([weights[at].double().sum() for at in groups])
    torch.testing.assert_close(totals.double(), wanted, rtol=1e-5, atol=1e-5)
    assert not found[0].any() and totals[5] == 0


@pytest.mark.parametrize(("e", "d"), [(0, 8), (1, 1), (70, 24), (70, 130)])
def test_products_of_pairs(e: int, d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    x, table = torch.randn(20, d, generator=generator), torch.randn(30, d, generator=generator)
    rows, others = torch.randint(20, (e,), generator=generator), torch.randint(30, (e,), generator=generator)
    found = sparse_sums.products(*on_card(x, table, rows, others)).cpu()
    torch.testing.assert_close(
        found.double(), (x[rows].double() * table[others].double()).sum(dim=1), rtol=1e-5, atol=1e-5
    )


def test_a_number_that_is_not_finite_stays_in_its_group() -> None:
    table, which, weights, limits = torch.ones(4, 8), torch.tensor([0, 1, 2, 3]), torch.ones(4), torch.tensor([0, 2, 4])
    table[1, 3] = torch.nan
    found = sparse_sums.weighted_sums(*on_card(table, which, weights, limits)).cpu()
    assert found[0, 3].isnan() and found.isnan().sum() == 1


@pytest.mark.parametrize("sums", ["decode", "sums_by_latent", "totals_by_latent", "products"])
def test_a_support_has_the_sums_of_a_plain_one(sums: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_paths, "form", lambda *_, **__: "cuda")
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(12, 40, generator=generator)
    dense[3], dense[:, 5], dense[:, 6] = -1, -1, 1  # a row and a latent without codes, and one that is in all rows
    plain = harness.Support.where(dense > 0.5)
    support = fast_paths.Support.where((dense > 0.5).to(DEVICE))
    values, rows, table = (
        plain.of(dense),
        torch.randn(12, 24, generator=generator),
        torch.randn(40, 24, generator=generator),
    )
    given = {"decode": (values, table), "sums_by_latent": (values, rows), "totals_by_latent": (values,)}
    if sums == "products":
        found, wanted = fast_paths.products(support, *on_card(rows, table)), plain.products(rows, table)
    else:
        found, wanted = getattr(support, sums)(*on_card(*given[sums])), getattr(plain, sums)(*given[sums])
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
    assert wanted.any() and support.at_places(torch.arange(3, device=DEVICE)).__class__ is fast_paths.Support


def in_order(x: Tensor, k: int) -> Tensor:
    """The places that a stable sort puts first: NaN before infinity, and of equal numbers the first."""
    return x.float().sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k"), [(1, 1), (31, 31), (33, 32), (700, 40), (1024, 1)])
def test_the_largest_are_those_of_a_sort(m: int, k: int, dtype: torch.dtype) -> None:
    x = torch.randn(3, m, generator=torch.Generator().manual_seed(m)).to(dtype)
    assert torch.equal(sparse_largest.largest_places(x.to(DEVICE), k).cpu(), in_order(x, k))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(1, 40), st.integers(1, 5))
def test_ties_zeros_and_negative_numbers(dtype: torch.dtype, seed: int, m: int, k: int, n_values: int) -> None:
    x = torch.randint(-n_values, n_values, (2, m), generator=torch.Generator().manual_seed(seed)).to(dtype)
    x[1] = torch.where(x[1] == 0, -0.0, x[1])
    x[1, ::2] += 0.0  # of both signs
    k = min(k, m)
    assert torch.equal(sparse_largest.largest_places(x.to(DEVICE), k).cpu(), in_order(x, k))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_are_not_finite(dtype: torch.dtype) -> None:
    x = torch.randn(4, 60, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 7], x[1, ::2], x[1, 1::2], x[2], x[3, 4:] = -torch.nan, torch.nan, torch.inf, torch.nan, -torch.inf
    assert torch.equal(sparse_largest.largest_places(x.to(DEVICE), 9).cpu(), in_order(x, 9))


def test_rows_that_keep_different_numbers() -> None:
    x, n_kept = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 0, 50, 7])
    found = sparse_largest.largest_places_of_each(*on_card(x, n_kept)).cpu()
    assert torch.equal(found, torch.cat([in_order(x[i : i + 1], k)[0] for i, k in enumerate(n_kept.tolist())]))


def test_what_is_kept_is_in_the_order_in_which_it_came() -> None:
    values, labels = (
        torch.tensor([[3.0, 1, 3, 9, 3], [5, 4, 9, 9, 9]]),
        torch.tensor([[9, 8, 7, 6, 5], [1, 2, 3, 4, 5]]),
    )
    counts = torch.tensor([5, 2], dtype=torch.int32)
    kept, of = sparse_largest.keep_largest(*on_card(values, labels.int(), counts), 2)
    assert kept.tolist() == [[3, 9], [5, 4]] and of.tolist() == [[9, 6], [1, 2]]


@pytest.mark.parametrize("n_values", [2, 50])
def test_rows_longer_than_what_is_put_into_order_at_once(n_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_largest, "BLOCK", 32)
    x = torch.randint(n_values, (3, 150), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(sparse_largest.largest_places(x.to(DEVICE), 90).cpu(), in_order(x, 90))
