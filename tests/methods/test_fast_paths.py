"""Loops for a CPU and kernels of a card have one door for SAEs, and say behind it what the plain forms say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import harness
from harness.plugins.methods import compile_time
from harness.plugins.methods.sae import fast_paths

METHODS = Path(__file__).parents[2] / "plugins" / "methods"


def imported(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


@pytest.mark.parametrize("folder", ["cpu", "cuda"])
def test_two_modules_alone_say_when_compiled_loops_are_used(folder: str) -> None:
    outside = [path for path in METHODS.rglob("*.py") if path.parent.name != folder]
    users = {path.name for path in outside if any(f".methods.{folder}." in f"{name}." for name in imported(path))}
    assert "fast_paths.py" in users and users <= {"fast_paths.py", "pursuit_loops.py"}


def test_nothing_is_compiled_for_a_device_without_rows() -> None:
    code = """
import sys, torch
from harness.plugins.methods.sae import fast_paths, gated, jumprelu, matryoshka, pretrained, relu, stacked, untrained
def loaded(device):
    fast_paths.prepare(torch.empty(2, 2, device=device))
    return {name.split(".")[3] for name in sys.modules if name.startswith("harness.plugins.methods.")} & {"cpu"}
assert loaded("meta") == set() and not {"numba", "triton"} & sys.modules.keys()
assert loaded("cpu") == {"cpu"}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compilation_is_no_learners_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton says when it compiles kernels; hooks that others have set go on."""
    knobs = pytest.importorskip("triton.knobs")
    from harness.plugins.methods.cuda import compilation

    left_out: list[float] = []
    monkeypatch.setattr(harness, "leave_out", lambda seconds, cpu_seconds: left_out.append(seconds))
    monkeypatch.setattr(compile_time.time, "perf_counter", iter([1.0, 4.0, 10.0, 10.5]).__next__)
    fast_paths.prepare(torch.empty(2, 2))
    hooks = "jit_cache_hook", "jit_post_compile_hook"
    told: list[dict[str, str]] = []
    for name in hooks:
        monkeypatch.setattr(knobs.runtime, name, lambda **about: told.append(about))
    compilation._leave_out_compilation()
    before, after = (getattr(knobs.runtime, name) for name in hooks)
    assert not before(key="x") and not after(key="x")
    assert left_out == [3.0, 0.5] and told == [{"key": "x"}] * 2


def drawn(dtype: torch.dtype = torch.float32) -> tuple[Tensor, harness.SAEWeights]:
    generator = torch.Generator().manual_seed(0)
    y, encoder = torch.randn(40, 24, generator=generator), torch.randn(200, 24, generator=generator)
    bias = 0.1 * torch.randn(200, generator=generator)
    weights = (tensor.to(dtype) for tensor in (encoder, bias, encoder, torch.zeros(24)))
    return y.to(dtype), harness.SAEWeights(*weights)


@pytest.mark.parametrize("screened", [False, True])
@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_a_selection_chooses_what_sorting_chooses(
    screened: bool, in_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_paths, "screens", lambda _: screened)
    y, weights = drawn()
    selection, exact = fast_paths.Selection(weights.encoder, 64, in_bfloat16=in_bfloat16), weights.pre_activations(y)
    for step in range(2):  # the second batch begins with a guess from the first
        of_each, of_all = selection.of_each_row(y, weights, 5), selection.of_all(y, weights, 5 * len(y))
        for chosen, wanted in (
            (of_each, exact.topk(5, dim=1).values),
            (of_all, exact.flatten().topk(5 * len(y)).values),
        ):
            assert torch.allclose(chosen.values, chosen.support.of(exact), atol=1e-5), step
            assert (chosen.pre is None) == (in_bfloat16 or screened)
            found = chosen.values.sort().values
            if in_bfloat16:  # of nearly equal ones it may take another
                assert torch.allclose(found, wanted.flatten().sort().values, atol=2**-6 * float(exact.abs().max()))
            else:
                assert torch.allclose(found, wanted.flatten().sort().values, atol=1e-5)


def test_the_latents_of_rows_that_keep_different_numbers() -> None:
    _, n_kept = drawn(), torch.tensor([3, 0, 7])
    pre = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    for rows in (pre, pre.double()):  # compiled, and by torch
        latents = fast_paths.largest_latents_of_each(rows, n_kept).split(n_kept.tolist())
        for row, k, found in zip(pre, n_kept.tolist(), latents, strict=True):
            assert sorted(found.tolist()) == sorted(row.topk(k).indices.tolist())
