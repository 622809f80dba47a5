"""Compiled products of chosen pairs of rows are those of float64, and those of torch's kernel."""

from __future__ import annotations

import pytest
import torch

import harness
from harness.plugins.methods.cpu.products import products
from harness.plugins.methods.sae import fast_paths


@pytest.mark.parametrize(("e", "d"), [(0, 5), (1, 1), (7, 3), (1000, 577)])
def test_each_pair_has_its_product(e: int, d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    x, y = torch.randn(20, d, generator=generator), torch.randn(31, d, generator=generator)
    rows, others = (torch.randint(len(side), (e,), generator=generator) for side in (x, y))
    exact = (x.double()[rows] * y.double()[others]).sum(dim=1)
    torch.testing.assert_close(products(x, y, rows, others).double(), exact, rtol=1e-5, atol=1e-4)


def test_torch_does_what_is_not_compiled() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, table = torch.randn(9, 64, generator=generator), torch.randn(40, 64, generator=generator)
    support = harness.Support.of_each_row(torch.rand(9, 40, generator=generator).topk(5, dim=1).indices, 40)
    by_torch = fast_paths.products(support, rows.double(), table.double())
    torch.testing.assert_close(fast_paths.products(support, rows, table).double(), by_torch, rtol=1e-5, atol=1e-5)
