"""PWCCA against its definition, row by row, in numpy; against scikit-learn's variates; and against wrong versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import harness
from tests.support.representations import moved, related, rows


def pwcca(side="smaller"):
    return harness.create("similarity", "pwcca", side=side)


def centred(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy() - x.double().numpy().mean(axis=0)


def basis(x: np.ndarray) -> np.ndarray:
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, s > 1e-10 * s[0]]


def correlations_and_variates(x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ρ [k], and the orthonormal variates of x and of y [n, k]."""
    basis_x, basis_y = basis(centred(x)), basis(centred(y))
    a, correlations, b = np.linalg.svd(basis_x.T @ basis_y, full_matrices=False)
    return correlations, basis_x @ a, basis_y @ b.T


def weighted(correlations: np.ndarray, variates: np.ndarray, rows: np.ndarray) -> float:
    """Σ α_i ρ_i / Σ α_i with α_i = Σ_j |⟨h_i, x_j⟩|, as it is written."""
    weights = [sum(abs(np.dot(h, column)) for column in rows.T) for h in variates.T]
    return float(np.dot(weights, correlations) / np.sum(weights))


def literal(x: torch.Tensor, y: torch.Tensor, side: str) -> float:
    correlations, variates_x, variates_y = correlations_and_variates(x, y)
    return weighted(correlations, *((variates_x, centred(x)) if side == "x" else (variates_y, centred(y))))


@pytest.mark.parametrize(("n", "d1", "d2"), [(200, 12, 12), (300, 20, 5), (100, 3, 30), (60, 29, 30)])
def test_equals_the_definition(n, d1, d2):
    x, y = related(n, d1, d2)
    for side in ("x", "y"):
        assert pwcca(side)(x, y) == pytest.approx(literal(x, y, side), abs=1e-9)
    smaller = "x" if d1 <= d2 else "y"
    assert pwcca()(x, y) == pytest.approx(literal(x, y, smaller), abs=1e-9)
    streamed = pwcca()
    for parts in zip(x.split(37), y.split(37), strict=True):
        streamed.update(*parts)
    assert streamed.compute() == pytest.approx(literal(x, y, smaller), abs=1e-9)


def test_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.cross_decomposition")
    x, y = related(250, 6, 4)
    model = sklearn.CCA(n_components=4, scale=False, max_iter=5000, tol=1e-10)
    scores_x, scores_y = model.fit_transform(x.numpy(), y.numpy())
    variates_x, variates_y = (scores / np.linalg.norm(scores, axis=0) for scores in (scores_x, scores_y))
    correlations = (variates_x * variates_y).sum(axis=0)
    assert pwcca("x")(x, y) == pytest.approx(weighted(correlations, variates_x, centred(x)), abs=1e-6)
    assert pwcca("y")(x, y) == pytest.approx(weighted(correlations, variates_y, centred(y)), abs=1e-6)


def test_wrong_versions_give_other_values():
    x, y = related(300, 12, 8)
    correlations, variates_x, variates_y = correlations_and_variates(x, y)
    basis_x = basis(centred(x))
    all_variates = basis_x @ np.linalg.svd(basis_x.T @ basis(centred(y)))[0]
    weights = np.abs(all_variates.T @ centred(x)).sum(axis=1)
    squares = ((variates_x.T @ centred(x)) ** 2).sum(axis=1)
    wrong = {
        "the weights of the other side": weighted(correlations, variates_y, centred(y)),
        "the columns of the other side": weighted(correlations, variates_x, centred(y)),
        "weight for directions without a partner": weights[:8] @ correlations / weights.sum(),
        "squared projections": squares @ correlations / squares.sum(),
        "the plain mean": correlations.mean(),
    }
    for name, other in wrong.items():
        assert abs(pwcca("x")(x, y) - other) > 1e-3, name


def inverse_root(x: np.ndarray) -> np.ndarray:
    """(XᵀX)^-½, the symmetric one."""
    values, vectors = np.linalg.eigh(x.T @ x)
    return vectors / np.sqrt(values) @ vectors.T


def test_not_as_in_the_authors_code():
    """There the whitening is left out of the directions, so that what is projected on are not the variates."""
    x, y = related(300, 6, 9)
    root_x, root_y = inverse_root(centred(x)), inverse_root(centred(y))
    a, correlations, _ = np.linalg.svd(root_x @ centred(x).T @ centred(y) @ root_y, full_matrices=False)
    not_variates = np.linalg.qr(centred(x) @ a)[0]
    assert weighted(correlations, centred(x) @ root_x @ a, centred(x)) == pytest.approx(pwcca()(x, y), abs=1e-9)
    assert abs(weighted(correlations, not_variates, centred(x)) - pwcca()(x, y)) > 1e-3


def test_values_worked_out_by_hand():
    a = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])
    b = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])
    c = torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1])
    x, y = torch.stack([a, 2 * b], dim=1), torch.stack([3 * b, c], dim=1)
    # ρ is 1 for b, 0 for the rest: x holds 2 of 2 + 1 of it, y 3 of 3 + 1.
    assert pwcca("x")(x, y) == pytest.approx(2 / 3, abs=1e-12)
    assert pwcca("y")(x, y) == pytest.approx(3 / 4, abs=1e-12)
    assert pwcca()(x, y) == pytest.approx(2 / 3, abs=1e-12)  # equal sizes: x
    # The wider side: its a and c have no partner, and no weight.
    assert pwcca("x")(torch.stack([a, 2 * b, c], dim=1), (b + a * b)[:, None]) == pytest.approx(0.5**0.5, abs=1e-12)


def test_invertible_maps_of_the_side_without_weights():
    x, y = related(120, 6, 5)
    for side, free in (("x", (x, moved(y)["invertible"])), ("y", (moved(x)["invertible"], y))):
        assert pwcca(side)(*free) == pytest.approx(pwcca(side)(x, y), abs=1e-9)
    # On the side that weighs even a rotation shows.
    assert abs(pwcca("x")(moved(x)["orthogonal"], y) - pwcca("x")(x, y)) > 1e-3
    assert abs(pwcca("y")(x, moved(y)["orthogonal"]) - pwcca("y")(x, y)) > 1e-3


def test_the_smaller_side_has_fewer_directions_not_fewer_columns():
    """A rank of 4 in 10 columns."""
    x, y = related(200, 4, 6)
    wide = x @ torch.randn(4, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert pwcca()(wide, y) == pytest.approx(literal(wide, y, "x"), abs=1e-6)
    assert pwcca()(wide + 1000, y) == pytest.approx(pwcca("x")(wide, y), abs=1e-6)


class TestUndefined:
    @pytest.mark.parametrize(("n", "d1", "d2"), [(10, 20, 20), (20, 20, 3), (21, 3, 20)])
    def test_as_many_directions_as_rows(self, n, d1, d2):
        with pytest.raises(harness.Undefined, match=rf"{n} rows are too few: {n - 1} directions .* take more rows"):
            pwcca()(rows(n, d1), rows(n, d2, seed=1))

    def test_correlations_that_the_number_of_rows_forces(self):
        """Two directions of two planes in three dimensions meet in one; in fewer dimensions any basis would do."""
        x, y = rows(30, 16), rows(30, 14, seed=1)
        assert np.sum(correlations_and_variates(x, y)[0] > 1 - 1e-9) == 1
        assert pwcca()(x, y) == pytest.approx(literal(x, y, "y"), abs=1e-8)
        wider = rows(30, 15, seed=1)
        correlations, variates, _ = correlations_and_variates(x, wider)
        assert np.sum(correlations > 1 - 1e-9) == 2
        turned = variates.copy()
        turned[:, :2] = variates[:, :2] @ (np.array([[1, -1], [1, 1]]) / np.sqrt(2))
        values = [weighted(correlations, h, centred(x)) for h in (variates, turned)]
        assert abs(values[0] - values[1]) > 1e-4  # both are right
        with pytest.raises(harness.Undefined, match="30 rows are too few for 16 and 15 directions"):
            pwcca("x")(x, wider)
        assert pwcca()(x, x) == pytest.approx(1.0, abs=1e-9)  # whatever the weights are

    def test_directions_that_both_sides_have(self):
        """Whatever basis of them is taken, the columns of the other side can be put together to give it."""
        x, y = related(200, 12, 8)
        mixed = torch.cat([x[:, :5], y], dim=1)
        correlations, variates, _ = correlations_and_variates(x, mixed)
        assert np.sum(correlations > 1 - 1e-9) == 5
        turned = variates.copy()
        turned[:, :5] = variates[:, :5] @ np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
        values = [weighted(correlations, h, centred(x)) for h in (variates, turned)]
        assert abs(values[0] - values[1]) > 1e-4  # both are right
        with pytest.raises(harness.Undefined, match="5 of 12 correlations are equal"):
            pwcca()(x, mixed)
        one = torch.cat([x[:, :1], y], dim=1)
        assert pwcca("x")(x, one) == pytest.approx(literal(x, one, "x"), abs=1e-8)

    def test_repeated_rows_count_once(self):
        x, y = (side.repeat(4, 1) for side in related(30, 16, 15))
        with pytest.raises(harness.Undefined, match="2 of 15 correlations are equal"):
            pwcca()(x, y)

    def test_side_is_checked(self):
        with pytest.raises(harness.ConfigError, match="side"):
            pwcca("larger")
