from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.decomposition
import torch

import harness
from harness.plugins.methods import held_rows
from tests.support import literal


def fit(x: torch.Tensor, seed: int = 0, **params: Any) -> harness.Decomposition:
    return harness.fit(harness.create("method", "ica", **params), x, seed=seed)


def planted(n: int = 4000, d: int = 12, n_sources: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, independent Laplace sources of different variances, and the oblique unit directions that mix them."""
    draw = np.random.default_rng(0)
    directions = draw.normal(size=(n_sources, d)) + 1  # cosines up to about 0.8
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sources = draw.laplace(size=(n, n_sources)) * np.linspace(3, 1, n_sources)
    sources -= sources.mean(axis=0)
    return (*(torch.from_numpy(array) for array in (sources @ directions + 50, sources, directions)),)  # type: ignore


def test_recovers_planted_sources_and_what_they_add() -> None:
    x, sources, directions = planted()
    ica = fit(x, n_components=6)
    cosines = ica.dictionary @ directions.T
    nearest = cosines.abs().argmax(dim=1)
    assert nearest.tolist() == list(range(6))  # by falling variance
    assert (cosines.abs().amax(dim=1) > 0.995).all()
    signs = cosines.gather(1, nearest[:, None]).sign().T
    codes = ica.encode(x).values * signs
    assert torch.allclose(codes.std(dim=0), sources.std(dim=0), rtol=0.1)  # in units of the rows
    assert all(np.corrcoef(codes[:, i], sources[:, i])[0, 1] > 0.985 for i in range(6))


@pytest.mark.parametrize("n_components", [6, 20])
def test_equals_scikit_learn_called_directly(n_components: int) -> None:
    x = literal.mixture(2500, d=20)
    ica = fit(x, 3, n_components=n_components, max_iterations=2000)
    # Its whitening has other signs: the same start in its axes.
    info = harness.Info(20, 2500, 3, x.device, x.dtype, mean=lambda: x.mean(dim=0))
    start = torch.randn(n_components, n_components, generator=info.generator("unmixing"), dtype=torch.float64).numpy()
    _, _, axes = np.linalg.svd(x.numpy() - x.numpy().mean(axis=0), full_matrices=False)
    axes = axes[:n_components]
    ours = np.sign(axes[np.arange(n_components), np.abs(axes).argmax(axis=1)])
    start = start * ours * np.sign(axes[:, 0])
    theirs = sklearn.decomposition.FastICA(n_components, w_init=start, max_iter=2000).fit(x.numpy())
    norms = np.linalg.norm(theirs.mixing_, axis=0)
    order = np.argsort(-norms)
    dictionary = (theirs.mixing_ / norms).T[order]
    signs = np.sign(dictionary[np.arange(n_components), np.abs(dictionary).argmax(axis=1)])
    # Both end at the same iteration, which roundings of the whitening hardly move.
    assert np.allclose(ica.dictionary, dictionary * signs[:, None], atol=1e-7)
    assert np.allclose(ica.encode(x).values, (theirs.transform(x.numpy()) * norms)[:, order] * signs, atol=1e-6)
    decoded = theirs.inverse_transform(theirs.transform(x.numpy()))
    assert np.allclose(ica.decode(ica.encode(x)), decoded, atol=1e-7)


def test_rows_of_unit_norm_with_their_largest_entry_positive() -> None:
    dictionary = fit(literal.mixture(1000), n_components=10, max_iterations=1000).dictionary
    assert torch.allclose(dictionary.norm(dim=1), torch.ones(10, dtype=torch.float64))
    assert (dictionary.gather(1, dictionary.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_a_mean_far_above_the_deviations_changes_nothing() -> None:
    x = planted()[0].float()
    near, far = fit(x - 50, n_components=6), fit(x + 3000, n_components=6)
    assert torch.allclose(far.dictionary, near.dictionary, atol=2e-3)  # rows near 3000 are rounded to 2e-4


def test_the_largest_coefficients_are_kept() -> None:
    x = planted(500)[0]
    dense, sparse = fit(x, n_components=6).encode(x).values, fit(x, n_components=6, k=2).encode(x)
    kept = dense.abs().topk(2).indices
    assert torch.equal(sparse.to_dense(), torch.zeros_like(dense).scatter(1, kept, dense.gather(1, kept)))


def test_seeds_decide_and_nothing_else_does(tmp_path: Path) -> None:
    x = literal.mixture(3000, d=16).float()
    first, again, other = (fit(x, seed, n_components=16, max_iterations=1000) for seed in (0, 0, 1))
    assert torch.equal(first.dictionary, again.dictionary)
    assert not torch.equal(first.dictionary, other.dictionary)
    assert first.dictionary.dtype == torch.float32
    first.save(tmp_path)
    loaded = harness.load(tmp_path)
    assert torch.equal(loaded.decode(loaded.encode(x)), first.decode(first.encode(x)))
    assert torch.allclose(loaded.decode(loaded.encode(x)), x, atol=1e-4)  # all components give the row back


def test_no_convergence_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="no convergence in 2 iterations"):
        fit(literal.mixture(1000), n_components=20, max_iterations=2)


def test_rows_that_do_not_vary_enough_are_said() -> None:
    x = literal.mixture(200, d=8)
    with pytest.raises(harness.Undefined, match="n_components is 9, but 200 rows of width 8"):
        fit(x, n_components=9)
    with pytest.raises(harness.Undefined, match="n_components is 6, but 6 rows of width 8 vary in no more than 5"):
        fit(x[:6], n_components=6)
    flat = torch.cat([x, x @ torch.ones(8, 4, dtype=torch.float64)], dim=1)
    for rows in (flat, flat.float()):
        with pytest.raises(harness.Undefined, match="vary in only 8 dimensions"):
            fit(rows, n_components=9)
        fit(rows, n_components=8, max_iterations=2000)


def test_rows_beyond_the_bound_are_refused_before_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_rows, "MAX_BYTES", 4000 * (12 + 2 * 6) * 8 - 1)
    with pytest.raises(harness.ConfigError, match="ica: 4000 rows of width 12"):
        fit(planted()[0], n_components=6)
    fit(planted(3999)[0], n_components=6)


@pytest.mark.parametrize("wrong", [{"n_components": 0}, {"k": 11}, {"max_iterations": 0}])
def test_bad_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(harness.ConfigError, match=next(iter(wrong))):
        harness.create("method", "ica", **({"n_components": 10} | wrong))
