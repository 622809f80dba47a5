"""The compiled step against torch: the same picks, the same doubts, the same codes to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal import mixture

from plugins.methods.compiled_step import subtract_and_pick
from plugins.methods.matching_pursuit import MatchingPursuit, unit_rows


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 80),
    m=st.integers(1, 200),
    n_barred=st.integers(0, 70),
    margin=st.sampled_from([-1.0, 0.0, 1e-6, 0.5, 100.0]),
    non_negative=st.booleans(),
    is_first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_step_is_what_torch_says(
    n: int, m: int, n_barred: int, margin: float, non_negative: bool, is_first: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Quarters are subtracted without rounding, and often equal.
    correlations = torch.randint(-8, 9, (n, m), generator=generator) / 4
    gram = torch.randint(-8, 9, (m + 3, m + 3), generator=generator) / 4
    taken = (torch.randint(m, (n,), generator=generator), torch.randint(-3, 4, (n, 1), generator=generator) / 1.0)
    barred = torch.rand(n, min(n_barred, m - 1), generator=generator) < 0.5
    expected = correlations.clone() if is_first else correlations - taken[1] * gram[taken[0], :m]
    picks, doubtful = subtract_and_pick(correlations, gram, None if is_first else taken, barred, margin, non_negative)
    assert torch.equal(correlations, expected)
    strengths = expected.clamp(min=0) if non_negative else expected.abs()
    strengths[:, m - barred.shape[1] :][barred] = -1
    best = strengths.max(dim=1, keepdim=True).values
    positive = (best > max(margin, 0)).squeeze(1)  # else all are close, which is for the caller to find out
    close = (strengths >= best - margin).sum(dim=1) > 1
    assert torch.equal(doubtful[positive], close[positive])
    first = (strengths == best).long().argmax(dim=1)
    assert torch.equal(picks[positive & ~doubtful], first[positive & ~doubtful])


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("n_barred", [0, 40])
def test_codes_are_those_of_the_steps_in_torch_to_the_bit(non_negative: bool, n_barred: int) -> None:
    x = (mixture(1200, d=64) + 2).float()
    pursuit = MatchingPursuit(unit_rows((mixture(700, d=64, seed=1) + 2).float()), 40, non_negative=non_negative)
    barred = torch.rand(1200, n_barred, generator=torch.Generator().manual_seed(0)) < 0.7
    assert pursuit.compiled
    compiled = pursuit.encode(x, barred=barred)
    pursuit.compiled = False
    in_torch = pursuit.encode(x, barred=barred)
    for field in ("values", "indices", "error"):
        assert torch.equal(getattr(compiled, field), getattr(in_torch, field))
    assert (compiled.values != 0).sum() > 1200 * 3


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
    assert torch.equal(found[0].indices, found[1].indices) and torch.equal(found[0].indices, found[2].indices)
    assert torch.equal(found[0].values, found[1].values) and torch.equal(found[0].values, found[2].values)


def test_only_float32_is_compiled() -> None:
    atoms = unit_rows(mixture(20, d=16))
    assert not MatchingPursuit(atoms, 3).compiled
    assert MatchingPursuit(atoms.float(), 3).compiled


def test_without_a_folder_for_what_was_compiled_it_is_compiled_with_a_warning(tmp_path: Path) -> None:
    code = (
        "import numba.core.caching as caching, torch, warnings\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from plugins.methods.matching_pursuit import MatchingPursuit\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    print(MatchingPursuit(torch.eye(4), 1).encode(torch.eye(4)).indices.flatten().tolist())\n"
        "print([str(warning.message) for warning in seen])\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    picks, warnings = done.stdout.strip().splitlines()
    assert picks == "[0, 1, 2, 3]" and "compiled anew in each process" in warnings
