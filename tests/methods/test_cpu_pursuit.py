"""The compiled pursuit against that of torch: the same picks, and values but for rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plugins.methods.matching_pursuit import MatchingPursuit, Pursuit, unit_rows
from tests.support.literal import mixture, pursue, pursue_upwards


def both(pursuit: MatchingPursuit, x: torch.Tensor, **arguments: torch.Tensor | float) -> tuple[Pursuit, Pursuit]:
    assert pursuit.is_compiled
    compiled = pursuit.encode(x, **arguments)
    pursuit.may_be_compiled = False
    return compiled, pursuit.encode(x, **arguments)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40),
    d=st.integers(2, 20),
    m=st.integers(1, 200),
    k=st.integers(1, 8),
    non_negative=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_takes_the_picks_of_the_textbook(n: int, d: int, m: int, k: int, non_negative: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, atoms = (unit_rows(torch.randn(size, d, generator=generator)) for size in (n, m))
    found = MatchingPursuit(atoms, k, non_negative=non_negative).encode(x)
    for i in range(n):
        textbook = pursue_upwards if non_negative else pursue
        values, picks, _ = textbook(x[i].double(), atoms.double(), k)
        large = torch.tensor(values).abs() > 1e-4  # below, float32 fits its own rounding
        n_large = int(large.cumprod(0).sum())
        assert found.indices[i, :n_large].tolist() == picks[:n_large]
        assert torch.allclose(found.values[i, :n_large].double(), torch.tensor(values[:n_large]).double(), atol=1e-5)


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("n_barred", [0, 40])
@pytest.mark.parametrize("tolerance", [None, 0.2])
def test_it_does_what_torch_does(non_negative: bool, n_barred: int, tolerance: float | None) -> None:
    x = (mixture(1200, d=64) + 2).float()
    pursuit = MatchingPursuit(unit_rows((mixture(700, d=64, seed=1) + 2).float()), 30, non_negative=non_negative)
    barred = torch.rand(1200, n_barred, generator=torch.Generator().manual_seed(0)) < 0.7
    compiled, in_torch = both(pursuit, x, barred=barred, tolerance=tolerance)
    same = (compiled.indices == in_torch.indices).all(dim=1)
    assert same.sum() >= 1198  # rounding decides on the last
    assert torch.allclose(compiled.values[same], in_torch.values[same], rtol=1e-3, atol=1e-4)
    assert torch.allclose(compiled.error, in_torch.error, rtol=1e-4, atol=1e-6)
    stopped = compiled.values == 0
    assert torch.equal(stopped[same], in_torch.values[same] == 0)
    assert (stopped.any(), (~stopped).sum() > 1200) == (non_negative or tolerance is not None, True)


def test_of_equal_atoms_the_first_is_taken_that_is_not_barred() -> None:
    atoms = unit_rows(mixture(100, d=16).float())
    atoms[70], atoms[90] = atoms[5], -atoms[5]
    pursuit = MatchingPursuit(atoms, 1)
    barred = torch.zeros(3, 99, dtype=torch.bool)  # of all but the first
    barred[1, 4] = barred[2, 4] = barred[2, 69] = True
    found = pursuit.encode(7 * atoms[[5, 5, 5]], barred=barred)
    assert found.indices.flatten().tolist() == [5, 70, 90]
    assert found.values.flatten().tolist() == pytest.approx([7, 7, -7], rel=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_row_that_may_take_no_atom_stops(compiled: bool) -> None:
    x, atoms = torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 0], [-1, 0]])
    pursuit = MatchingPursuit(atoms, 2, non_negative=True)
    pursuit.may_be_compiled = compiled
    assert not pursuit.encode(x, barred=torch.tensor([[True, False]])).values.any()
    assert pursuit.encode(x, barred=torch.tensor([[False, True]])).values[0, 0] == 1


def test_a_row_that_is_not_a_number_leaves_the_others_alone() -> None:
    x, atoms = mixture(60, d=32).float(), unit_rows(mixture(90, d=32, seed=1).float())
    pursuit, broken = MatchingPursuit(atoms, 6), x.clone()
    broken[7], broken[30, 2] = float("nan"), float("inf")
    others = torch.ones(60, dtype=torch.bool)
    others[[7, 30]] = False
    assert torch.equal(pursuit.encode(broken).values[others], pursuit.encode(x).values[others])


def test_near_ties_are_decided_in_float64() -> None:
    """Two atoms closer than float32 correlations can tell apart, the better one second."""
    d = 64
    base = unit_rows(mixture(1, d=d, seed=3).float())[0]
    x = base.double() + 1e-3 * unit_rows(mixture(400, d=d, seed=4))
    nudge = 3e-7 * unit_rows(mixture(400, d=d, seed=5))
    n_right = 0
    for i in range(400):
        atoms = unit_rows(torch.stack([base.double(), base.double() + nudge[i]]).float())
        exact = (x[i].float().double() @ atoms.double().T).abs().argmax()
        n_right += int(MatchingPursuit(atoms, 1).encode(x[i : i + 1].float()).indices[0, 0] == exact)
    assert n_right >= 390


def test_codes_do_not_depend_on_the_threads() -> None:
    x, atoms = mixture(500, d=48).float(), unit_rows(mixture(300, d=48, seed=1).float())
    pursuit, n_threads = MatchingPursuit(atoms, 12), torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found.append(pursuit.encode(x))
    finally:
        torch.set_num_threads(n_threads)
    for other in found[1:]:
        assert torch.equal(found[0].indices, other.indices) and torch.equal(found[0].values, other.values)


def test_only_float32_is_compiled() -> None:
    atoms = unit_rows(mixture(20, d=16))
    assert not MatchingPursuit(atoms, 3).is_compiled
    assert MatchingPursuit(atoms.float(), 3).is_compiled


def test_without_a_folder_for_what_was_compiled_it_is_compiled_with_a_warning(tmp_path: Path) -> None:
    code = (
        "import numba.core.caching as caching, torch, warnings\n"
        "caching.CacheImpl._locator_classes = []\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    from harness.plugins.methods.matching_pursuit import MatchingPursuit\n"
        "    print(MatchingPursuit(torch.eye(4), 1).encode(torch.eye(4)).indices.flatten().tolist())\n"
        "print([str(warning.message) for warning in seen])\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    picks, warnings = done.stdout.strip().splitlines()
    assert picks == "[0, 1, 2, 3]" and "compiled anew in each process" in warnings
