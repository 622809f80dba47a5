from __future__ import annotations

import pytest
import sklearn.linear_model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plugins.methods import matching_pursuit
from harness.plugins.methods.matching_pursuit import MatchingPursuit, PursuitDecomposition, unit_rows
from tests.support.literal import mixture, pursue, pursue_orthogonally, pursue_upwards


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


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 9),
    d=st.integers(2, 12),
    m=st.integers(1, 150),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
    orthogonal=st.booleans(),
)
def test_variants_equal_their_textbooks(n: int, d: int, m: int, k: int, seed: int, orthogonal: bool) -> None:
    x, atoms = gaussian(n, d, seed), unit_rows(gaussian(m, d, seed + 1))
    pursuit = MatchingPursuit(atoms, k, orthogonal=orthogonal, non_negative=not orthogonal).encode(x)
    for i in range(n):
        values, picks, residual = (pursue_orthogonally if orthogonal else pursue_upwards)(x[i], atoms, k)
        assert pursuit.error[i].item() == pytest.approx((residual @ residual / (x[i] @ x[i])).item(), abs=1e-12)
        if orthogonal and residual.norm() < 1e-9 * x[i].norm():
            continue  # which atoms come last, of those that span the row, is up to rounding
        assert pursuit.indices[i, : len(picks)].tolist() == picks
        assert torch.allclose(pursuit.values[i, : len(picks)], torch.tensor(values).double(), atol=1e-6)
        assert (pursuit.values[i, len(picks) :].abs() <= 1e-12 * x[i].norm()).all()


def test_orthogonal_codes_are_those_of_scikit_learn() -> None:
    x, atoms = mixture(120, d=24), unit_rows(mixture(90, d=24, seed=1))
    decomposition = PursuitDecomposition(atoms, 9, orthogonal=True)
    theirs = sklearn.linear_model.orthogonal_mp(atoms.T.numpy(), x.T.numpy(), n_nonzero_coefs=9).T
    assert torch.allclose(decomposition.encode(x).to_dense(), torch.from_numpy(theirs), atol=1e-8)


def test_orthogonal_codes_use_no_atom_twice_and_explain_more() -> None:
    x, atoms = (mixture(300, d=48) + 3).float(), unit_rows((mixture(200, d=48, seed=1) + 3).float())
    plain, orthogonal = MatchingPursuit(atoms, 20).encode(x), MatchingPursuit(atoms, 20, orthogonal=True).encode(x)
    assert all(len(set(row)) == 20 for row in orthogonal.indices.tolist())
    assert (orthogonal.error <= plain.error + 1e-6).float().mean() > 0.95  # greedy: not of each row
    assert orthogonal.error.mean() < 0.7 * plain.error.mean()
    exact = MatchingPursuit(atoms.double(), 20, orthogonal=True).encode(x.double())
    same = (exact.indices == orthogonal.indices).all(dim=1)
    assert same.float().mean() > 0.97
    assert torch.allclose(orthogonal.values[same], exact.values[same].float(), atol=2e-2)  # of numbers up to 30


def test_no_atom_is_taken_twice_for_what_rounding_leaves_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching_pursuit, "_SPANNED_EPS", 0.0)
    x, atoms = gaussian(50, 16, 1).float(), unit_rows(gaussian(3, 16, 0).float())
    pursuit = MatchingPursuit(atoms, 8, orthogonal=True).encode(x)
    assert (pursuit.values != 0).sum(dim=1).tolist() == [3] * 50


def test_variants_stop_where_no_atom_adds_anything() -> None:
    atoms = unit_rows(gaussian(3, 16, 0).float())
    x = torch.cat([gaussian(5, 16, 1).float(), torch.zeros(1, 16)])
    pursuit = MatchingPursuit(atoms, 8, orthogonal=True).encode(x)
    assert (pursuit.values[:5] != 0).sum(dim=1).tolist() == [3] * 5
    assert not pursuit.values[5].any()
    left = x[:5] - pursuit.values[:5, :3, None].mul(atoms[pursuit.indices[:5, :3]]).sum(dim=1)
    assert (left @ atoms.T).abs().max() < 1e-5  # nothing is left along any atom
    against = MatchingPursuit(atoms[:1], 8, non_negative=True).encode(torch.stack([-atoms[0], 2 * atoms[0]]))
    assert not against.values[0].any() and against.error[0] == 1
    assert torch.allclose(against.values[1], 2 * torch.eye(8)[0]) and against.error[1] < 1e-12


def test_non_negative_codes_are_unsigned() -> None:
    x, atoms = gaussian(400, 16, 0).float(), unit_rows(gaussian(90, 16, 1).float())
    decomposition = PursuitDecomposition(atoms, 10, non_negative=True)
    codes = decomposition.encode(x)
    assert (codes.values >= 0).all() and not decomposition.signed
    assert (PursuitDecomposition(atoms, 10).encode(x).values < 0).any()


@pytest.mark.parametrize("variant", [{"orthogonal": True}, {"non_negative": True}])
def test_codes_of_a_row_do_not_depend_on_the_rows_beside_it_in_any_variant(variant: dict[str, bool]) -> None:
    x, atoms = mixture(150, d=48).float(), unit_rows(mixture(300, d=48, seed=1).float())
    pursuit = MatchingPursuit(atoms, 12, **variant)
    together, apart = pursuit.encode(x), [pursuit.encode(row[None]) for row in x]
    assert torch.equal(together.indices, torch.cat([one.indices for one in apart]))
    assert torch.equal(together.values, torch.cat([one.values for one in apart]))
