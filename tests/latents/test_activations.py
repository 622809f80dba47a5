"""Latent activations against the policy written out in dense arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import harness
from harness.latents import activations as module
from harness.latents.activations import LatentActivations, read_activations
from tests.support.texts import CPU, Fixed, numbered, read_dense


def _brute(dense: np.ndarray, masked: np.ndarray, index: int, sign: int) -> tuple[list[float], np.ndarray]:
    """Threshold, ceiling, density and active share, and the pole's activation on every row, by sorting."""
    pole = np.where(masked, 0, np.maximum(0, sign * dense[:, index]))
    n = int((~masked).sum())
    falling = sorted(pole[~masked].tolist(), reverse=True)
    threshold, ceiling = falling[n // 100], falling[n // 10]
    above = [float((pole[~masked] > bound).sum()) / n for bound in (0, threshold)]
    return [threshold, ceiling, *above], pole


def _check(found: LatentActivations, dense: np.ndarray, masked: np.ndarray) -> None:
    assert found.n_latents == dense.shape[1]
    for index in range(dense.shape[1]):
        for sign in (1, -1):
            numbers, pole = _brute(dense, masked, index, sign)
            threshold, ceiling, *_ = numbers
            own = found.pole(index, sign)
            assert [own.threshold, own.ceiling, own.density, own.active_share] == numbers
            assert own.rows.tolist() == np.flatnonzero(pole > ceiling).tolist()
            assert own.values.tolist() == pole[pole > ceiling].tolist()
            assert own.is_active.sum() == (pole > threshold).sum()


# Few distinct values, so that there are ties; eighths, so that sums are exact.
CODES = st.sampled_from([-2.0, -0.25, 0.0, 0.0, 0.0, 0.125, 0.5, 1.0, 3.0])


@st.composite
def _cases(draw: Any) -> tuple[harness.Codes, int, Tensor, int]:
    n, m = draw(st.integers(1, 230)), draw(st.integers(1, 5))
    is_sparse, width = draw(st.booleans()), draw(st.integers(0, 6))
    seed = draw(st.integers(0, 10**6))
    generator = np.random.default_rng(seed)
    palette = np.array(draw(st.lists(CODES, min_size=1, max_size=9)))  # of one value: a constant latent
    values = torch.tensor(generator.choice(palette, (n, width if is_sparse else m)), dtype=torch.float32)
    if not is_sparse and draw(st.booleans()):
        values += torch.tensor(generator.normal(size=values.shape), dtype=torch.float32)
    indices = torch.tensor(generator.integers(0, m, (n, width))) if is_sparse else None
    masked = torch.tensor(generator.random(n) < draw(st.sampled_from([0.0, 0.1, 0.9])))
    masked[draw(st.integers(0, n - 1))] = False
    return harness.Codes(values, indices, m), m, masked, draw(st.sampled_from([1, 40, 10**9]))


@settings(deadline=None, max_examples=150)
@given(_cases())
def test_every_pole_is_as_the_policy_says(case: tuple[harness.Codes, int, Tensor, int]) -> None:
    codes, m, masked, max_entries = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_ENTRIES", max_entries)
        patch.setattr(module, "BLOCK_ROWS", 64)
        found = read_activations(Fixed(codes, m), numbered(len(masked), masked), masked, CPU)
    _check(found, codes.to_dense(m).numpy().astype(np.float64), masked.numpy())


def test_poles_are_shown_by_equally_many_rows_and_density_is_of_all() -> None:
    dense = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    dense[:, 1] = dense[:, 1].abs().mul(dense[:, 1].abs() > 2.9)  # on 0.4 % of all rows
    dense[:, 2] = 1.0
    found = read_dense(dense)
    assert found.active_share[0].tolist() == [0.01, 0.01]
    assert found.density[0].tolist() == [float((sign * dense[:, 0] > 0).double().mean()) for sign in (1, -1)]
    assert found.thresholds[1].tolist() == [0, 0] and 0 < found.density[1, 0] == found.active_share[1, 0] < 0.01
    assert found.active_share[2].tolist() == [0, 0] and len(found.pole(2, 1).rows) == 0  # a constant says nothing
    assert found.density[2].tolist() == [1, 0]
    stored = found.offsets.diff().tolist()
    assert stored[0] == 2 * 200 and stored[1:] == [int((dense[:, 1] > 0).sum()), 0]


def test_rows_that_do_not_fit_on_a_card_are_read_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = harness.Codes(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))
    masked = torch.arange(50) % 9 == 0
    whole, n_tried, encode = read_activations(Fixed(codes, 6), numbered(50, masked), masked, CPU), [], Fixed.encode

    def scarce(self: Fixed, x: Tensor) -> harness.Codes:
        n_tried.append(len(x))
        if len(x) > 12:
            raise torch.OutOfMemoryError
        return encode(self, x)

    monkeypatch.setattr(Fixed, "encode", scarce)
    halved = read_activations(Fixed(codes, 6), numbered(50, masked), masked, CPU)
    assert n_tried == [44, 22, 11, 11, 11, 11]
    assert all(torch.equal(one, other) for one, other in zip(vars(halved).values(), vars(whole).values(), strict=True))


def test_the_file_holds_all_of_it(tmp_path: Path) -> None:
    found = read_dense(torch.randn(300, 4, generator=torch.Generator().manual_seed(1)))
    found.save(tmp_path / "a.safetensors")
    loaded = LatentActivations.load(tmp_path / "a.safetensors")
    for name, tensor in vars(found).items():
        assert torch.equal(getattr(loaded, name), tensor) and getattr(loaded, name).dtype == tensor.dtype
    assert loaded.latents.tolist() == found.latents.tolist()
    assert (found.rows.dtype, found.values.dtype, found.density.dtype) == (torch.int32, torch.float32, torch.float64)


def test_no_latents() -> None:
    found = read_dense(torch.zeros(10, 0))
    assert found.n_latents == 0 and found.offsets.tolist() == [0] and found.density.shape == (0, 2)


def test_what_no_decomposition_may_do() -> None:
    codes = torch.zeros(10, 2)
    codes[3, 1] = float("nan")
    with pytest.raises(harness.PluginError, match=r"Fixed\.encode gives codes that are NaN or infinite"):
        read_dense(codes)
    with pytest.raises(harness.PluginError, match="Fixed is unsigned, and encode gives negative codes"):
        read_dense(-torch.ones(10, 2), signed=False)
    with pytest.raises(harness.Undefined, match="every row is masked"):
        read_dense(torch.ones(10, 2), torch.ones(10, dtype=torch.bool))
