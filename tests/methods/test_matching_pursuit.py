from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal import mixture, pursue

from plugins.methods import matching_pursuit
from plugins.methods.matching_pursuit import MatchingPursuit, PursuitDecomposition, unit_rows


def gaussian(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 9),
    d=st.integers(2, 12),
    m=st.integers(1, 150),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_equals_the_textbook(n: int, d: int, m: int, k: int, seed: int) -> None:
    x, atoms = gaussian(n, d, seed), unit_rows(gaussian(m, d, seed + 1))
    pursuit = MatchingPursuit(atoms, k).encode(x)
    for i in range(n):
        values, picks, residual = pursue(x[i], atoms, k)
        live = torch.tensor(values).abs() > 1e-12 * x[i].norm()  # beyond that the textbook fits rounding noise
        assert torch.allclose(pursuit.values[i][live], torch.tensor(values)[live].double(), atol=1e-6)
        assert pursuit.indices[i][live].tolist() == torch.tensor(picks)[live].tolist()
        assert pursuit.error[i].item() == pytest.approx((residual @ residual / (x[i] @ x[i])).item(), abs=1e-12)


def test_float32_takes_the_picks_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows' mean is far larger than their deviations: the first step leaves its rounding errors to the others."""
    x, atoms = (mixture(400, d=64) + 10).float(), unit_rows((mixture(700, d=64, seed=1) + 10).float())
    exact = MatchingPursuit(atoms.double(), 40).encode(x.double()).indices

    def n_equal() -> int:
        return int((MatchingPursuit(atoms, 40).encode(x).indices == exact).all(dim=1).sum())

    assert n_equal() >= 399
    monkeypatch.setattr(matching_pursuit, "_DOUBT_EPS", -1.0)
    assert n_equal() < 395  # updates alone, never computed anew, do take other picks


def test_without_a_gram_matrix_the_codes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = gaussian(50, 16, 0), unit_rows(gaussian(90, 16, 1))
    with_gram = MatchingPursuit(atoms, 10).encode(x)
    monkeypatch.setattr(matching_pursuit, "MAX_GRAM_BYTES", 0)
    pursuit = MatchingPursuit(atoms, 10)
    assert pursuit._gram is None
    without = pursuit.encode(x)
    assert torch.equal(with_gram.indices, without.indices)
    assert torch.allclose(with_gram.values, without.values)


def test_grown_equals_made_at_once() -> None:
    x, atoms = gaussian(30, 16, 0), unit_rows(gaussian(90, 16, 1))
    grown = MatchingPursuit(atoms[:1], 10, capacity=90)
    for start, end in ((1, 4), (4, 70), (70, 90)):
        grown.extend(unit_rows(gaussian(20, 16, 9)))
        grown.truncate(start)
        grown.extend(atoms[start:end])
    assert torch.equal(grown.atoms, atoms)
    assert torch.equal(grown.encode(x).indices, MatchingPursuit(atoms, 10).encode(x).indices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_do_not_depend_on_the_rows_beside(dtype: torch.dtype) -> None:
    x = mixture(300, d=48).to(dtype)
    decomposition = PursuitDecomposition(unit_rows(mixture(200, d=48, seed=1).to(dtype)), 12)
    whole = decomposition.encode(x)
    for size in (1, 7, 50):
        parts = [decomposition.encode(part) for part in x.split(size)]
        assert torch.equal(torch.cat([part.values for part in parts]), whole.values)
        assert torch.equal(torch.cat([part.indices for part in parts]), whole.indices)


def test_error_is_that_of_the_reconstruction() -> None:
    x = mixture(200, d=48).float()
    x[5] = 0
    decomposition = PursuitDecomposition(unit_rows(mixture(200, d=48, seed=1).float()), 12)
    pursuit = MatchingPursuit(decomposition.dictionary, 12).encode(x)
    left = x - decomposition.decode(decomposition.encode(x))
    expected = left.double().square().sum(1) / x.double().square().sum(1).clamp(min=1e-300)
    assert torch.allclose(pursuit.error.double(), expected, atol=1e-6)


def test_zero_rows_and_spanned_rows_stop() -> None:
    atoms = unit_rows(mixture(20, d=16).float())
    pursuit = MatchingPursuit(atoms, 8).encode(torch.stack([torch.zeros(16), -5 * atoms[3], 1e-20 * atoms[4]]))
    assert not pursuit.values[0].any()
    assert (pursuit.values != 0).sum(dim=1).tolist() == [0, 1, 1]
    assert pursuit.indices[1, 0] == 3
    assert pursuit.values[1, 0].item() == pytest.approx(-5, rel=1e-5)


def test_of_equal_atoms_the_first_is_taken() -> None:
    atom = unit_rows(gaussian(1, 8, 0))
    atoms = torch.cat([unit_rows(gaussian(100, 8, 1)), atom, atom, -atom])
    assert MatchingPursuit(atoms, 3).encode(7 * atom).indices[0, 0] == 100


def test_codes_keep_the_precision_and_accept_any_layout() -> None:
    x = mixture(64, d=32)
    decomposition = PursuitDecomposition(unit_rows(mixture(50, d=32, seed=1).float()), 6)
    assert decomposition.encode(x).values.dtype == torch.float64
    assert decomposition.encode(x.half()).values.dtype == torch.float32
    strided = x.float().T.contiguous().T
    assert torch.equal(decomposition.encode(strided).values, decomposition.encode(x.float()).values)


def test_barred_atoms_are_not_taken() -> None:
    x, atoms = gaussian(20, 16, 0), unit_rows(gaussian(90, 16, 1))
    barred = torch.zeros(20, 30, dtype=torch.bool)
    barred[:, 10:] = True
    barred[7] = False
    pursuit = MatchingPursuit(atoms, 10).encode(x, barred=barred)
    fewer, all_ = MatchingPursuit(atoms[:70], 10).encode(x), MatchingPursuit(atoms, 10).encode(x)
    expected = fewer.indices.clone()
    expected[7] = all_.indices[7]
    assert torch.equal(pursuit.indices, expected)
    assert not torch.equal(all_.indices, expected)
