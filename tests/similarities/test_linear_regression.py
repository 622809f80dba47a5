"""R² against scikit-learn, row by row where rows are left out, and against canonical correlations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import harness
from harness.plugins.similarities.centred_moments import CentredMoments, Imprecise, Scatter
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import JointMoments
from tests.support.representations import moved, related, rows


def regression(estimate="gcv"):
    return harness.create("similarity", "linear_regression", estimate=estimate)


def fitted(x: np.ndarray, y: np.ndarray, new_x: np.ndarray) -> np.ndarray:
    """Least squares with an intercept: what it predicts at new_x."""
    with_one, new_with_one = (np.column_stack([np.ones(len(side)), side]) for side in (x, new_x))
    return new_with_one @ np.linalg.lstsq(with_one, y, rcond=None)[0]


def in_sample(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x.double().numpy(), y.double().numpy()
    return 1 - np.sum((y - fitted(x, y, x)) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)


def leave_one_out(x: torch.Tensor, y: torch.Tensor) -> float:
    """Fitted n times, to all rows but one; the mean it is compared with is that of these rows too."""
    x, y = x.double().numpy(), y.double().numpy()
    missed, total = 0.0, 0.0
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        missed += np.sum((y[i] - fitted(x[others], y[others], x[i : i + 1])) ** 2)
        total += np.sum((y[i] - y[others].mean(axis=0)) ** 2)
    return 1 - missed / total


def even_leverages(n: int, n_frequencies: int) -> torch.Tensor:
    """Columns of waves, mixed: every row has the same leverage."""
    phase = 2 * np.pi * np.outer(np.arange(n), np.arange(1, n_frequencies + 1)) / n
    waves = torch.from_numpy(np.concatenate([np.cos(phase), np.sin(phase)], axis=1))
    return waves @ rows(2 * n_frequencies, 2 * n_frequencies) + 7


@pytest.mark.parametrize(("n", "d1", "d2"), [(200, 12, 12), (300, 20, 5), (100, 3, 30), (20, 12, 40)])
class TestDefinition:
    def test_in_sample(self, n, d1, d2):
        x, y = related(n, d1, d2)
        assert regression("in_sample")(x, y) == pytest.approx(in_sample(x, y), abs=1e-9)
        if d2 < n - 1:
            assert regression("in_sample")(y, x) == pytest.approx(in_sample(y, x), abs=1e-9)

    def test_scikit_learn(self, n, d1, d2):
        linear, metrics = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.metrics")
        x, y = (side.numpy() for side in related(n, d1, d2))
        wanted = metrics.r2_score(y, linear.LinearRegression().fit(x, y).predict(x), multioutput="variance_weighted")
        assert regression("in_sample")(*map(torch.from_numpy, (x, y))) == pytest.approx(wanted, abs=1e-9)

    def test_held_out_is_near_leaving_out_each_row(self, n, d1, d2):
        x, y = related(n, d1, d2)
        assert regression()(x, y) == pytest.approx(leave_one_out(x, y), abs=0.02 if n > 50 else 0.5)
        assert regression()(x, y) < regression("in_sample")(x, y)


@pytest.mark.parametrize(("n", "n_frequencies"), [(16, 3), (25, 5)])
def test_held_out_is_leaving_out_each_row_where_leverages_are_even(n, n_frequencies):
    x = even_leverages(n, n_frequencies)
    signal = x @ rows(2 * n_frequencies, 3)
    for y in (rows(n, 4), signal + signal.std() * rows(n, 3, seed=2)):
        value = regression()(x, y)
        assert value == pytest.approx(leave_one_out(x, y), abs=1e-9)
        adjusted = 1 - (1 - in_sample(x, y)) * (n - 1) / (n - 1 - x.shape[1])  # Ezekiel 1930: not of new rows
        assert value < adjusted - 0.1


def test_held_out_is_more_than_leaving_out_rows_that_have_most_of_the_leverage():
    x, y = related(200, 12, 5)
    x[::40] *= 30
    assert leave_one_out(x, y) < regression()(x, y) - 0.1


def test_canonical_correlations_weighted_by_squared_projections():
    """Kornblith et al. 2019: R² = Σ α_i ρ_i² / Σ α_i, the sums over all variates h_i of y, α_i = Σ_j ⟨h_i, y_j⟩²."""
    x, y = related(150, 5, 8)
    basis_x, basis_y = (
        np.linalg.svd(side.numpy() - side.numpy().mean(axis=0), full_matrices=False)[0] for side in (x, y)
    )
    _, correlations, b = np.linalg.svd(basis_x.T @ basis_y)
    weights = ((basis_y @ b.T).T @ y.numpy()) ** 2
    wanted = weights.sum(axis=1)[:5] @ correlations**2 / weights.sum()
    assert regression("in_sample")(x, y) == pytest.approx(wanted, abs=1e-9)


def test_direction():
    """y is a part of x: x says all of it, and it says a part of x."""
    x = rows(200, 4)
    for estimate in ("gcv", "in_sample"):
        assert regression(estimate)(x, x[:, :2]) == pytest.approx(1.0, abs=1e-9)
        assert regression(estimate)(x[:, :2], x) < 0.95


def test_values_worked_out_by_hand():
    a = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])
    b = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])
    x, y = a[:, None], torch.stack([3 * a + 5, b], dim=1)
    assert regression("in_sample")(x, y) == pytest.approx(9 / 10, abs=1e-12)
    assert regression()(x, y) == pytest.approx(1 - 1 / 10 * (7 / 6) ** 2, abs=1e-12)


def test_invertible_maps_of_x_but_not_of_y():
    x, y = related(120, 6, 5)
    for estimate in ("gcv", "in_sample"):
        s = regression(estimate)
        assert s(moved(x)["invertible"], y) == pytest.approx(s(x, y), abs=1e-9)
        assert abs(s(x, moved(y)["invertible"]) - s(x, y)) > 1e-3


def test_unrelated_rows():
    """In-sample, 30 of 99 directions explain 30 of 99 of anything; held-out, nothing."""
    pairs = [(rows(100, 30, seed), rows(100, 10, seed + 1000)) for seed in range(30)]
    assert np.mean([regression("in_sample")(x, y) for x, y in pairs]) == pytest.approx(30 / 99, abs=0.03)
    assert max(regression()(x, y) for x, y in pairs) < 0


class TestUndefined:
    @pytest.mark.parametrize("estimate", ["gcv", "in_sample"])
    def test_as_many_directions_as_rows(self, estimate):
        x, y = rows(10, 20), rows(10, 3, seed=1)
        with pytest.raises(harness.Undefined, match=r"10 rows are too few: x has 9 directions.* take more rows"):
            regression(estimate)(x, y)
        assert regression(estimate)(y, x) < 1  # only what is predicted from has to be narrow

    def test_directions_that_rows_do_not_have_predict_nothing(self):
        x, y = related(60, 4, 6)
        wide = x @ torch.randn(4, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        for offset in (0, 1000):
            assert regression()(wide + offset, y) == pytest.approx(regression()(x, y), abs=1e-7)

    def test_estimate_is_checked(self):
        with pytest.raises(harness.ConfigError, match="estimate"):
            regression("adjusted")


def moments_of(x: torch.Tensor, y: torch.Tensor, kind: type[JointMoments]) -> CentredMoments:
    joint, none = kind([("x", "y")]), torch.zeros(len(x), dtype=torch.bool)
    joint.update({"x": x, "y": y}, {"x": none, "y": none})
    return joint.pair("x", "y")


def noise(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread_over(n_orders: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rotations, in float32, of rows whose standard deviations span so many orders of magnitude."""
    x = noise(2000, 80) * torch.logspace(0, -n_orders, 80, dtype=torch.float64)
    turned = [x @ torch.linalg.qr(noise(80, 80, seed=seed))[0] for seed in (5, 6)]
    return turned[0].float(), turned[1].float()


@pytest.mark.parametrize("estimate", ["gcv", "in_sample"])
@pytest.mark.parametrize("n_orders", [0.0, 2.0])
def test_products_in_float32_are_enough_where_coefficients_are_moderate(estimate, n_orders):
    x, y = spread_over(n_orders)
    y += 0.3 * noise(2000, 80, seed=7).float() * y.std(dim=0)
    quick, exact = (moments_of(x, y, kind) for kind in (FloatMoments, JointMoments))
    assert not torch.equal(quick.xy, exact.xy)
    # Or small eigenvalues would be rounding.
    assert torch.allclose(quick.x.products, exact.x.products, rtol=1e-12, atol=1e-12 * float(exact.x.products.trace()))
    s = regression(estimate)
    assert s.value(quick) == pytest.approx(s.value(exact), abs=1e-6)  # which is promised


def test_products_in_float32_are_refused_where_directions_of_little_variance_count():
    x, y = spread_over(5.0)
    quick, exact = (moments_of(x, y, kind) for kind in (FloatMoments, JointMoments))
    s = regression("in_sample")
    assert s.value(exact) == pytest.approx(in_sample(x, y), abs=1e-9)
    with pytest.raises(Imprecise):
        s.value(quick)


def test_few_spare_rows_ask_for_more_digits():
    """Generalised cross-validation divides what is unexplained by the share of rows that are spare, twice."""
    x, y = (noise(603, d, seed=d).float() for d in (500, 70))
    quick = moments_of(x, y, FloatMoments)
    assert regression("in_sample").value(quick) == pytest.approx(in_sample(x, y), abs=1e-6)
    with pytest.raises(Imprecise):
        regression("gcv").value(quick)


@pytest.mark.parametrize(
    ("smallest", "distances", "is_enough"),
    [
        (1e-4, (1, 1), True),
        (1e-4, (10, 10), True),
        (1e-9, (1, 1), False),
        (1e-4, (1e6, 1), False),
        (1e-4, (1, 1e6), False),
    ],
)
def test_what_rounding_adds_by_itself_counts_too(smallest, distances, is_enough):
    """Coefficients are 0 here, so that nothing is linear in the rounding: a direction of x has very little variance, or
    rows are far from their pilot.
    """
    turn = torch.linalg.qr(noise(4, 4))[0]
    of_x, of_y = turn @ torch.diag(torch.tensor([1.0, 1.0, 1.0, smallest]).double()) @ turn.T, torch.eye(3).double()
    x, y = (
        Scatter(1000, torch.zeros(len(p)).double(), p, 1.0, far * p.diagonal(), 1.0)
        for p, far in zip((of_x, of_y), distances, strict=True)
    )
    unrelated = CentredMoments(x, y, torch.zeros(4, 3, dtype=torch.float64), 1.0, 1.0, doubt=lambda: lambda: unrelated)
    if is_enough:
        assert regression("in_sample").value(unrelated) == 0
    else:
        with pytest.raises(Imprecise):
            regression("in_sample").value(unrelated)
