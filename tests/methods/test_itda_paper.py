from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from tests.support import literal


def fit(x: torch.Tensor, method: str = "itda_paper", **params: Any) -> Any:
    """A fit whose cap may be hit early; what warnings say has tests of their own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f"{method}: the (dictionary was full|mean of the rows)")
        return harness.fit(harness.create("method", method, **params), x)


def places(decomposition: Any) -> list[int]:
    found: list[int] = decomposition.atoms["position"].tolist()
    return found


def as_published(x: np.ndarray, k: int, max_atoms: int, threshold: float, batch_rows: int) -> list[int]:
    """Which rows become atoms, in order: the description, step by step, one row after the other."""
    n, d = x.shape
    taken: list[int] = []

    def reconstruct(row: np.ndarray) -> np.ndarray:
        residual = row.copy()
        atoms = x[taken] / np.linalg.norm(x[taken], axis=1, keepdims=True)
        for _ in range(k):
            correlations = atoms @ residual
            best = np.argmax(np.abs(correlations))
            residual = residual - correlations[best] * atoms[best]
        return row - residual

    def error(row: np.ndarray) -> float:
        found, size = reconstruct(row), np.linalg.norm
        direction = found / size(found) if size(found) > 1e-9 else np.zeros(d)
        return float(np.mean((row / size(row) - direction) ** 2))

    for start in range(0, n, batch_rows):
        batch = [i for i in range(start, min(start + batch_rows, n)) if x[i].any()]
        if len(taken) >= max_atoms or not batch:
            continue
        if len(taken) < d:
            counts = Counter(tuple(x[i]) for i in batch)
            most_frequent = sorted(counts, key=lambda row: (-counts[row], row))[: d - len(taken)]
            taken += [next(i for i in batch if tuple(x[i]) == row) for row in most_frequent]
        taken += [i for i in batch if error(x[i]) > threshold]
        taken = taken[:max_atoms]
    return taken


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("k", "max_atoms", "threshold", "batch_rows"),
    [(4, 1000, 0.0012, 64), (4, 1000, 0.0012, 7), (3, 60, 0.0005, 50), (2, 10, 0.0012, 64), (8, 1000, 0.0004, 512)],
)
def test_equals_the_description(seed: int, k: int, max_atoms: int, threshold: float, batch_rows: int) -> None:
    x = literal.mixture(300, d=16, seed=seed)
    x[::9] = x[3]  # frequent, in every batch
    x[[5, 6, 20]] = 0
    expected = as_published(x.numpy(), k, max_atoms, threshold, batch_rows)
    decomposition = fit(x, k=k, max_atoms=max_atoms, threshold=threshold, batch_rows=batch_rows)
    assert places(decomposition) == expected
    assert len(expected) == max_atoms or 16 < len(expected) < 300  # there was something to decide


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 40),
    d=st.integers(2, 8),
    k=st.integers(1, 6),
    max_atoms=st.integers(1, 30),
    threshold=st.sampled_from([0.001, 0.01, 0.03, 0.1]),
    batch_rows=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_equals_the_description_in_small(
    n: int, d: int, k: int, max_atoms: int, threshold: float, batch_rows: int, seed: int
) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    decomposition = fit(x, k=k, max_atoms=max_atoms, threshold=threshold, batch_rows=batch_rows)
    assert places(decomposition) == as_published(x.numpy(), k, max_atoms, threshold, batch_rows)


def test_near_duplicates_of_a_batch_all_enter() -> None:
    basis = torch.eye(8, dtype=torch.float64)
    duplicates = torch.ones(5, 8) + 1e-6 * literal.mixture(5, d=8)
    x = torch.cat([basis, duplicates])
    paper = fit(x, k=2, max_atoms=100, threshold=0.01, batch_rows=8)
    judged_again = fit(x, "itda", k=2, max_atoms=100, threshold=0.1, batch_rows=8)
    assert places(paper)[8:] == [8, 9, 10, 11, 12]
    assert len(places(judged_again)[8:]) == 1


def test_the_first_d_atoms_depend_on_the_basis_and_the_later_ones_do_not() -> None:
    d = 16
    x = literal.mixture(400, d=d)
    rotated = 2.7 * x @ torch.linalg.qr(literal.mixture(d, d=d, seed=5))[0]
    params: dict[str, Any] = {"k": 4, "max_atoms": 1000, "threshold": 0.0012}
    assert set(places(fit(x, batch_rows=200, **params))[:d]) != set(places(fit(rotated, batch_rows=200, **params))[:d])
    # With d rows in a batch the first batch enters whole, in whatever order.
    atoms, of_rotated = (places(fit(rows, batch_rows=d, **params)) for rows in (x, rotated))
    assert set(atoms[:d]) == set(range(d))
    assert set(atoms) == set(of_rotated)
    assert len(atoms) > 3 * d


def test_the_dictionary_grows_with_the_batch() -> None:
    x = literal.mixture(2000)
    small, large = (fit(x, k=4, max_atoms=10_000, threshold=0.005, batch_rows=rows).n_latents for rows in (50, 1000))
    assert large > 1.5 * small


def test_the_threshold_is_two_times_one_minus_cosine_over_d() -> None:
    row = torch.tensor([[0.8, 0.6, 0, 0]], dtype=torch.float64)  # one step leaves cos .8: 2(1 − .8)/4 = .1
    x = torch.cat([torch.eye(4, dtype=torch.float64), 7 * row])
    sizes = [fit(x, k=1, max_atoms=10, threshold=at, batch_rows=4).n_latents for at in (0.0999, 0.1001)]
    assert sizes == [5, 4]


def test_a_cap_that_is_hit_early_is_a_warning() -> None:
    learner = harness.create("method", "itda_paper", k=4, max_atoms=40, threshold=0.0001, batch_rows=50)
    with pytest.warns(RuntimeWarning, match=r"itda_paper: .*full \(40 atoms\) after 50 of 300 rows.*Raise max_atoms"):
        decomposition = harness.fit(learner, literal.mixture(300))
    assert decomposition.report() == {"rows_until_full": 50}
    assert decomposition.n_latents == 40


def test_atoms_are_rows_at_unit_norm_and_survive_saving(tmp_path: Path) -> None:
    x = literal.mixture(300).float()
    decomposition = fit(x, k=4, max_atoms=1000, threshold=0.0012)
    sources = x[places(decomposition)]
    assert torch.allclose(decomposition.dictionary, sources / sources.norm(dim=1, keepdim=True))
    assert decomposition.report() == {"rows_until_full": None}
    assert decomposition.n_candidates == 300
    decomposition.save(tmp_path)
    loaded = harness.load(tmp_path)
    assert torch.equal(loaded.encode(x).values, decomposition.encode(x).values)
    pd.testing.assert_frame_equal(loaded.atoms, decomposition.atoms)


def test_only_zero_rows_is_an_error() -> None:
    with pytest.raises(harness.ConfigError, match="itda_paper: every row of the stream has norm 0"):
        fit(torch.zeros(10, 4), k=2, max_atoms=5)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"max_atoms": 0}, {"threshold": 0.0}, {"batch_rows": 0}])
def test_bad_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(harness.ConfigError, match=next(iter(wrong))):
        harness.create("method", "itda_paper", **({"k": 4, "max_atoms": 10} | wrong))


def test_a_mean_that_holds_most_of_the_rows_is_a_warning() -> None:
    learner = harness.create("method", "itda_paper", k=4, max_atoms=1000)
    with pytest.warns(RuntimeWarning, match=r"itda_paper: the mean of the rows holds .*method itda subtracts it"):
        harness.fit(learner, literal.mixture(300) + 50)
