"""Products on tensor cores against float64, and whether kernels compile; interpreted where there is no card."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from harness.plugins.methods.matching_pursuit import unit_rows
from tests.support.literal import mixture

pytest.importorskip("triton")
from harness.plugins.methods.cuda import split_products

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = torch.finfo(torch.float32).eps

_COMPILE = """
import sys, torch
from harness.plugins.methods.matching_pursuit import MatchingPursuit
MatchingPursuit(torch.eye(2), 1).encode(torch.eye(2))
assert "triton" not in sys.modules
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from harness.plugins.methods.cuda import pursuit_kernels, split_products
TYPES = {"indices": "*i64", "is_above": "*i8", "open_rows": "*i8"}
TYPES |= dict.fromkeys(["tolerance", "margin", "least", "scale"], "fp32")
TYPES |= dict.fromkeys(["x_high", "x_low", "a_high", "a_low"], "*fp16")
TYPES |= dict.fromkeys(["unit", "correlations", "atoms", "gram", "values", "errors", "out"], "*fp32")
row = {"m_block": 1024, "d_block": 64, "non_negative": True}
for kernel, constants in (
    (pursuit_kernels.pursue, row | {"most_near": 64}),
    (pursuit_kernels.judge, row),
    (split_products._multiply, {"tile": 128, "depth": 64, "group": 8}),
):
    types = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}
    options = {"num_warps": 8, "enable_fp_fusion": True}
    compiled = compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", 90, 32), options=options)
    print(kernel.__name__, len(compiled.asm["cubin"]) > 1000, end=" ")
"""


@pytest.mark.parametrize(("n", "m", "d"), [(3, 2, 600), (130, 40, 97), (20, 140, 64)])
def test_split_products_are_as_near_as_those_in_float32(n: int, m: int, d: int) -> None:
    x, atoms = unit_rows((mixture(n, d=d) + 1).float()), unit_rows((mixture(m, d=d, seed=1) + 1).float())
    atoms[1], x[2] = -x[0], 0
    found = split_products.split_products(x.to(DEVICE), atoms.to(DEVICE)).cpu().double()
    exact = x.double() @ atoms.double().T
    assert (found - exact).abs().max() < 5 * EPS  # without the small halves hundreds
    assert not found[2].any() and found[0, 1] == pytest.approx(-1, abs=5 * EPS)


def test_products_of_what_is_no_number_leave_the_others_alone() -> None:
    x, atoms = unit_rows(mixture(6, d=70).float()), unit_rows(mixture(9, d=70, seed=1).float())
    broken = x.clone()
    broken[4] = torch.nan
    found, whole = (split_products.split_products(rows.to(DEVICE), atoms.to(DEVICE)).cpu() for rows in (broken, x))
    assert found[4].isnan().all()
    assert torch.equal(found[[0, 1, 2, 3, 5]], whole[[0, 1, 2, 3, 5]])


def test_kernels_compile_for_a_card_and_nothing_imports_triton_before() -> None:
    """The interpreter takes what the compiler refuses."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", _COMPILE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "pursue True judge True _multiply True ", done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize(("n", "m", "d"), [(8192, 4096, 576), (4000, 16385, 2304), (16384, 2049, 300)])
def test_a_card_has_products_as_near_as_those_in_float32(n: int, m: int, d: int) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    x, atoms = (unit_rows(torch.randn(rows, d, generator=generator, device="cuda") + 0.3) for rows in (n, m))
    atoms[:9] = x[:9]
    if torch.cuda.get_device_capability() >= (9, 0):
        assert split_products.pays(x, atoms) == (torch.cuda.get_device_capability()[0] == 9)
    found, exact = split_products.split_products(x, atoms), x.double() @ atoms.double().T
    error, of_float32 = ((products - exact).abs().max() for products in (found, x @ atoms.T))
    assert error < max(8 * EPS, 2 * of_float32)
