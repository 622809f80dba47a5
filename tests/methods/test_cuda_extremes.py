"""Kernels where tables are larger than 32-bit places reach, and what is not for them at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="kernels need Triton, which there is for Linux only")

from triton.runtime import interpreter

from harness.plugins.methods.cuda import sparse_screening, sparse_sums
from harness.plugins.methods.sae import fast_paths

KERNELS = Path(__file__).parents[2] / "plugins" / "methods" / "cuda"
D = 64


@pytest.fixture
def vast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.Tensor]:
    """A table of more than 2 ** 31 numbers, 0 but for its last row; it takes no memory, and hardly any disk."""
    if torch.cuda.is_available():
        pytest.skip("would be copied to the card whole")
    # The interpreter copies arguments back, which would write all of them.
    monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)
    n_rows = 2**31 // D + 3
    table = torch.from_file(str(tmp_path / "vast"), shared=True, size=n_rows * D).view(n_rows, D)
    table[-1] = torch.arange(1.0, D + 1)
    yield table


def test_places_beyond_32_bits(vast: torch.Tensor) -> None:
    last = len(vast) - 1
    sums = sparse_sums.weighted_sums(vast, torch.tensor([0, last]), torch.tensor([5.0, 2.0]), torch.tensor([0, 1, 2]))
    assert not sums[0].any() and torch.equal(sums[1], 2 * vast[-1])
    rows, others = torch.tensor([0, last]), torch.tensor([last, last])
    found = sparse_sums.products(vast, vast, rows, others)
    assert found.tolist() == [0, pytest.approx(float(vast[-1] @ vast[-1]))]


def test_places_are_counted_in_64_bits() -> None:
    """The number of a program has 32; times a width it may leave these, and only a large card would show it."""
    for path in KERNELS.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "program_id(0)" in line and path.name != "split_products.py":  # which counts tiles, and their rows anew
                assert re.search(r"program_id\(0\)\.to\(tl\.int64\)", line), f"{path}: {line}"


def test_what_kernels_do_not_take_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_paths, "runs_kernels", lambda device: True)
    x = torch.zeros(4, 6, device="meta")
    assert fast_paths.form(x, x) == "cuda"
    for other in (x.T, x[:, ::2], x.bfloat16(), x.double(), x.clone().requires_grad_()):
        assert fast_paths.form(x, other) == "torch"
    monkeypatch.setattr(fast_paths, "runs_kernels", lambda device: False)
    assert fast_paths.form(x, x) == "torch"
    on_cpu, both = torch.zeros(4, 6), (torch.float32, torch.bfloat16)
    assert fast_paths.form(on_cpu) == fast_paths.form(on_cpu.bfloat16(), dtypes=both) == "cpu"
    assert fast_paths.form(on_cpu.half(), dtypes=both) == fast_paths.form(on_cpu, on_cpu.T) == "torch"


def test_a_batch_of_one_row_with_as_many_codes_as_latents_is_screened() -> None:
    generator = torch.Generator().manual_seed(0)
    y, encoder = torch.randn(1, 9, generator=generator), torch.randn(33, 9, generator=generator)
    screen = sparse_screening.Screen.of(y, encoder, torch.zeros(33))
    values, latents = screen.largest(33)
    assert latents.tolist() == [list(range(33))]
    torch.testing.assert_close(values, y @ encoder.T, rtol=1e-5, atol=1e-5)
    support, _ = screen.between(torch.full((33,), -torch.inf))
    assert support.latents.tolist() == list(range(33))
