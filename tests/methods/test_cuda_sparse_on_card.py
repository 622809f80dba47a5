"""On a card: SAEs at real sizes take the steps that they take on a CPU, the same each time; and, without one, that the
kernels are programs that a card takes.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="kernels need Triton, which there is for Linux only")

import harness
from harness.plugins.methods.sae import fast_paths

SIZES = [(576, 9216, 32), (2304, 16384, 64)]
KINDS: dict[str, dict[str, Any]] = {
    "topk_sae": {},
    "batch_topk_sae": {},
    "matryoshka_sae": {},
    "relu_sae": {"l1": 0.01},
    "gated_sae": {"l1": 0.01},
    "jumprelu_sae": {"l0_penalty": 0.001},
}
COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from harness.plugins.methods.cuda import sparse_largest, sparse_screening_kernels, sparse_sums, unit_rows_descent

FLOATS = "units gradients means squares table weights sums values x found y encoder bias norms growths".split()
FLOATS += "constant uppers lower upper lost kept".split()
WHOLE = {"d": "i32", "e": "i32", "m": "i32", "k": "i32", "c": "i32", "n": "i32", "most": "i32"}
TYPES = {**dict.fromkeys(FLOATS, "*fp32"), **WHOLE, "half": "*bf16", "pre": "*bf16", "counts": "*i32"}
TYPES |= {"candidates": "*i32", "rate": "fp32", "root": "fp32", "labels": "*i32", "marks": "*i8"}
LARGE = {"M": 16384, "BLOCK": 2048}
for kernel, constants in (
    (sparse_sums._weighted_sums, {"ROWS": 8, "COLUMNS": 256}),
    (sparse_sums._totals, {"BLOCK": 128}),
    (sparse_sums._products, {"PAIRS": 8, "COLUMNS": 256}),
    (sparse_largest._largest, {"BITS": 31, **LARGE}),
    (sparse_largest._keep, {"C": 512}),
    (unit_rows_descent._step, {"BETA_1": 0.9, "BETA_2": 0.999, "EPS": 1e-8, "D": 4096}),
    (sparse_screening_kernels._round, {"ROWS": 8, "COLUMNS": 256}),
    (sparse_screening_kernels._candidates, {"RELATIVE": 0.008, **LARGE}),
    (sparse_screening_kernels._refine, {"N": 8, "COLUMNS": 256}),
    (sparse_screening_kernels._mark, {"RELATIVE": 0.008, "COLUMNS": 1024}),
):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "*i64") for name in names}
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs)
    compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8, "enable_fp_fusion": True})
"""


@pytest.mark.slow
def test_a_compiler_for_a_card_takes_the_kernels(tmp_path: Any) -> None:
    """The interpreter takes more than it does: names of Python, for one."""
    environment = {"PATH": "/usr/bin:/bin", "TRITON_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", COMPILED], check=True, env=environment)


def rows(n: int, d: int) -> Tensor:
    """Rows with a few of many directions each, and noise."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2 * d, d, generator=generator) / d**0.5
    chosen = torch.rand(n, 2 * d, generator=generator) < 16 / d
    return (chosen * torch.rand(n, 2 * d, generator=generator)) @ directions + 0.1 * torch.randn(
        n, d, generator=generator
    ) / d**0.5


def gradients(name: str, x: Tensor, m: int, k: int) -> list[Tensor]:
    """The gradients and the loss of two steps, so small that the weights stay near where they were."""
    b = len(x) // 2
    parameters = KINDS[name] or {"k": k}
    sae = harness.create("method", name, n_latents=m, passes=1, batch_rows=b, learning_rate=1e-6, **parameters)
    mean = x.double().mean(dim=0)
    sae.start(harness.Info(x.shape[1], len(x), 0, x.device, x.dtype, lambda: mean))
    sae.weights.encoder_bias -= 0.1  # so that codes are few
    sae.see_first = lambda _: None  # else a limit is a pre-activation, on whose side of it rounding decides
    found: list[Tensor] = []
    descend = sae.descend
    # As they are before the step: on a card it takes the radial part from the decoder's by itself.
    sae.descend = lambda: (found.extend(own.grad.cpu().clone() for own in sae.parameters()), descend())
    with torch.no_grad():
        for batch in x.split(b):
            sae._train(batch)
            found.append(sae._losses[-1].cpu())
    return found


@pytest.mark.gpu
@pytest.mark.parametrize(("d", "m", "k"), SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_gradients_at_real_sizes_are_those_of_a_cpu(name: str, d: int, m: int, k: int) -> None:
    x = rows(1024, d)
    assert fast_paths.screens(torch.empty(m, d, device="cuda"))
    on_card = gradients(name, x.cuda(), m, k)
    for one, again in zip(on_card, gradients(name, x.cuda(), m, k), strict=True):
        assert torch.equal(one, again)
    for one, other in zip(on_card, gradients(name, x, m, k), strict=True):
        # Of 30,000 codes of a batch, a few are so near to another that rounding decides.
        assert (one - other).norm() <= 2e-3 * other.norm()


@pytest.mark.gpu
@pytest.mark.parametrize(("d", "m", "k"), SIZES)
def test_codes_at_real_sizes_are_those_of_float64(d: int, m: int, k: int) -> None:
    generator = torch.Generator().manual_seed(1)
    y, encoder = rows(4096, d).cuda(), torch.randn(m, d, generator=generator).cuda() / d**0.5
    bias = 0.01 * torch.randn(m, generator=generator).cuda()
    values, latents = fast_paths.screen(y, encoder, bias).largest(k)
    exact = y.double() @ encoder.double().T + bias.double()
    best = exact.topk(k, dim=1)
    torch.testing.assert_close(values.double(), exact.gather(1, latents), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(values.double().sort(dim=1, descending=True).values, best.values, rtol=1e-5, atol=1e-5)
    differ = (latents != best.indices.sort(dim=1).values).any(dim=1).double().mean()
    in_float32 = torch.addmm(bias, y, encoder.T).topk(k, dim=1).indices.sort(dim=1).values
    assert differ <= (in_float32 != best.indices.sort(dim=1).values).any(dim=1).double().mean() + 0.005
    dense = torch.addmm(bias, y, encoder.T)
    for numbers in (dense, dense.bfloat16()):
        found = fast_paths.largest_latents(numbers, k)
        wanted = numbers.float().sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
        assert torch.equal(found, wanted)
