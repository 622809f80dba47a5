"""CKA against its definitions written out in numpy, values worked out by hand, and the invariances that it claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import harness

KERNELS = ("linear", "rbf")
ESTIMATORS = ("biased", "debiased")
FORMS = [(kernel, estimator) for kernel in KERNELS for estimator in ESTIMATORS]
Array = NDArray[np.float64]


def cka(kernel="linear", estimator="biased", **params):
    return harness.create("similarity", "cka", kernel=kernel, estimator=estimator, **params)


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Correlated columns of unequal variance, away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x @ torch.randn(d, d, generator=generator, dtype=torch.float64) + 5 * torch.arange(d)


def related(n: int, d1: int, d2: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = rows(n, d1, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + 3 * torch.randn(n, d2, generator=generator, dtype=torch.float64)


def orthogonal(d: int, seed: int = 7) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


def gram(x: Array, kernel: str, bandwidth: float = 1.0) -> Array:
    if kernel == "linear":
        return x @ x.T
    distances = np.array([[math.dist(a, b) for b in x] for a in x])
    sigma = bandwidth * np.median(distances[~np.eye(len(x), dtype=bool)])
    return np.exp(-(distances**2) / (2 * sigma**2))


def hsic_biased(k: Array, l: Array) -> float:  # noqa: E741
    """Gretton et al. 2005: tr(KHLH)/(n−1)²."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(k @ h @ l @ h) / (n - 1) ** 2


def hsic_song(k: Array, l: Array) -> float:  # noqa: E741
    """Song et al. 2012, equation 5."""
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    terms = (
        np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 * (one @ k @ l @ one) / (n - 2)
    )
    return terms / (n * (n - 3))


def hsic_u_statistic(k: Array, l: Array) -> float:  # noqa: E741
    """The U-statistic that Song et al. simplify: a mean over quadruples of different rows, by brute force."""
    from itertools import permutations

    quadruples = np.array(list(permutations(range(len(k)), 4)))
    i, j, q, r = quadruples.T
    return np.mean(k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q])


def literal(x: torch.Tensor, y: torch.Tensor, kernel: str, hsic, bandwidth: float = 1.0) -> float:
    k, l = (gram(side.double().numpy(), kernel, bandwidth) for side in (x, y))  # noqa: E741
    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("n", "d1", "d2"), [(30, 4, 7), (12, 20, 3), (5, 2, 2)])
def test_equals_the_definition(kernel, n, d1, d2):
    x, y = related(n, d1, d2)
    assert cka(kernel, "biased")(x, y) == pytest.approx(literal(x, y, kernel, hsic_biased), abs=1e-10)
    assert cka(kernel, "debiased")(x, y) == pytest.approx(literal(x, y, kernel, hsic_song), abs=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_debiased_is_the_u_statistic(kernel):
    x, y = related(8, 3, 5)
    assert cka(kernel, "debiased")(x, y) == pytest.approx(literal(x, y, kernel, hsic_u_statistic), abs=1e-10)


@pytest.mark.parametrize("bandwidth", [0.2, 0.8, 3.0])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bandwidth_scales_the_median(bandwidth, estimator):
    x, y = related(25, 3, 4)
    expected = literal(x, y, "rbf", hsic_biased if estimator == "biased" else hsic_song, bandwidth)
    assert cka("rbf", estimator, bandwidth=bandwidth)(x, y) == pytest.approx(expected, abs=1e-10)


def test_the_zero_diagonal_is_no_distance():
    """A median over all n² entries gives another bandwidth; with few rows the difference is plain."""
    x, y = related(6, 3, 4)
    value = cka("rbf")(x, y)
    k, l = (np.array([[math.dist(a, b) for b in s] for a in s]) for s in (x.numpy(), y.numpy()))  # noqa: E741
    k, l = (np.exp(-(s**2) / (2 * np.median(s) ** 2)) for s in (k, l))  # noqa: E741
    wrong = hsic_biased(k, l) / math.sqrt(hsic_biased(k, k) * hsic_biased(l, l))
    assert abs(value - wrong) > 1e-3


def test_values_worked_out_by_hand():
    a = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    b = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    both = torch.cat([a, b], dim=1)
    assert cka()(a, b) == 0.0
    assert cka()(a, both) == pytest.approx(1 / math.sqrt(2), abs=1e-12)
    # ‖S‖² − n/(n−2) Σ‖x‖²‖y‖² + Σ‖x‖² Σ‖y‖²/((n−1)(n−2)): 0 − 8 + 16/6 over 16 − 8 + 16/6.
    assert cka(estimator="debiased")(a, b) == pytest.approx(-0.5, abs=1e-12)


def test_golden_values():
    """From the definitions above, on an array that anyone can make again."""
    i = np.arange(40, dtype=np.float64)
    x = torch.from_numpy(np.stack([np.sin(i), np.cos(2 * i), np.sin(3 * i + 1)], axis=1))
    y = torch.from_numpy(np.stack([np.sin(i) + 0.5 * np.cos(5 * i), np.cos(2 * i) * np.sin(i)], axis=1))
    golden = {
        ("linear", "biased"): 0.506326110262,
        ("linear", "debiased"): 0.475581658394,
        ("rbf", "biased"): 0.689333205482,
        ("rbf", "debiased"): 0.658748313543,
    }
    for form, value in golden.items():
        assert cka(*form)(x, y) == pytest.approx(value, abs=1e-9), form


@pytest.mark.parametrize(("kernel", "estimator"), FORMS)
class TestProperties:
    def test_itself_is_one(self, kernel, estimator):
        x = rows(40, 5)
        assert cka(kernel, estimator)(x, x) == 1.0

    def test_symmetric(self, kernel, estimator):
        x, y = related(40, 5, 3)
        s = cka(kernel, estimator)
        assert s.symmetric
        assert s(x, y) == pytest.approx(s(y, x), abs=1e-13)

    def test_noise_lowers_it_and_the_range_holds(self, kernel, estimator):
        x, noise = rows(200, 4), rows(200, 4, seed=3)
        s = cka(kernel, estimator)
        values = [s(x, x + share * noise) for share in (0.0, 0.3, 1.0, 10.0)]
        assert s.higher_is_more_similar
        assert values == sorted(values, reverse=True)
        assert all(s.range[0] <= value <= s.range[1] for value in values)

    def test_order_of_rows_is_irrelevant_and_pairing_is_not(self, kernel, estimator):
        x, y = related(60, 4, 4)
        order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
        s = cka(kernel, estimator)
        assert s(x[order], y[order]) == pytest.approx(s(x, y), abs=1e-12)
        assert s(x, y[order]) < s(x, y) - 0.1

    def test_invariant_to_what_it_claims(self, kernel, estimator):
        x, y = related(50, 6, 4)
        moved = {
            "orthogonal": x @ orthogonal(6),
            "isotropic_scale": 250 * x,
            "translation": x + torch.linspace(-100, 100, 6),
            "permutation": x[:, torch.tensor([3, 0, 5, 1, 4, 2])],
        }
        s = cka(kernel, estimator)
        assert s.invariant_to == set(moved)
        for name, changed in moved.items():
            assert s(changed, y) == pytest.approx(s(x, y), abs=1e-10), name
            assert s(y, changed) == pytest.approx(s(y, x), abs=1e-10), name

    def test_not_invariant_to_invertible_maps(self, kernel, estimator):
        x, y = related(50, 6, 4)
        s = cka(kernel, estimator)
        stretched = x @ torch.diag(torch.tensor([20.0, 1, 1, 1, 1, 0.1], dtype=torch.float64))
        assert abs(s(stretched, y) - s(x, y)) > 0.01

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_any_float_type(self, kernel, estimator, dtype):
        x, y = (side.to(dtype) for side in related(50, 6, 4))
        s = cka(kernel, estimator)
        assert s(x, y) == s(x.double(), y.double())

    def test_a_large_mean_costs_no_digits(self, kernel, estimator):
        x, y = (side.float() for side in related(300, 6, 4))
        x, y = x + 3000, y - 3000
        hsic = hsic_biased if estimator == "biased" else hsic_song
        x64, y64 = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
        assert cka(kernel, estimator)(x, y) == pytest.approx(literal(x64, y64, kernel, hsic), abs=1e-9)

    def test_constant_rows_are_undefined(self, kernel, estimator):
        x = rows(40, 4)
        constant = torch.full((40, 3), 0.1, dtype=torch.float64)  # a mean by sum and quotient is not 0.1
        for pair in ((x, constant), (constant, x), (constant.float(), x)):
            with pytest.raises(harness.Undefined):
                cka(kernel, estimator)(*pair)

    def test_too_few_rows_are_undefined(self, kernel, estimator):
        n = 3 if estimator == "debiased" else 1
        with pytest.raises(harness.Undefined):
            cka(kernel, estimator)(rows(n, 2), rows(n, 2))
        with pytest.raises(harness.Undefined):
            cka(kernel, estimator)(torch.zeros(0, 2), torch.zeros(0, 2))

    def test_says_where_input_is_broken(self, kernel, estimator):
        x, y = related(20, 4, 3)
        y[[5, 9], 1] = torch.tensor([math.nan, math.inf], dtype=torch.float64)
        with pytest.raises(harness.Undefined, match=r"2 of 20 rows of y .* first row 5"):
            cka(kernel, estimator)(x, y)
        with pytest.raises(harness.ConfigError, match="x has 20 rows, y has 19"):
            cka(kernel, estimator)(x, x[1:])
        with pytest.raises(harness.ConfigError, match="y has shape"):
            cka(kernel, estimator)(x, x[:, 0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_unrelated_rows(estimator):
    """Debiased is near 0 on both sides of it; biased is far above."""
    values = [
        cka("linear", estimator)(
            torch.randn(60, 30, generator=torch.Generator().manual_seed(seed)),
            torch.randn(60, 30, generator=torch.Generator().manual_seed(seed + 1000)),
        )
        for seed in range(40)
    ]
    if estimator == "biased":
        assert min(values) > 0.2
    else:
        assert abs(np.mean(values)) < 0.01
        assert min(values) < 0 < max(values)


def test_a_debiased_self_similarity_that_is_only_rounding_is_undefined():
    """Rows at equal distances from each other: the exact HSIC₁ is 0."""
    with pytest.raises(harness.Undefined, match="of x with itself"):
        cka("linear", "debiased")(torch.eye(10), rows(10, 3))
    with pytest.raises(harness.Undefined, match="of y with itself"):
        cka("rbf", "debiased")(rows(10, 3), torch.eye(10))


def test_rbf_refuses_too_many_rows():
    s = cka("rbf")
    assert not s.streams
    with pytest.raises(harness.ConfigError, match="at most 10,000, got 10,001"):
        s(torch.zeros(10_001, 1), torch.zeros(10_001, 1))


def test_rbf_with_mostly_equal_rows_is_undefined():
    x = torch.zeros(20, 3)
    x[:4] = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(harness.Undefined, match="rows of y is 0"):
        cka("rbf")(rows(20, 3), x + 3000.1)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan, math.inf])
def test_bandwidth_is_checked(bandwidth):
    with pytest.raises(harness.ConfigError, match="bandwidth"):
        cka("rbf", bandwidth=bandwidth)


@pytest.mark.parametrize("estimator", ESTIMATORS)
class TestStreaming:
    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def test_any_split_and_merge_order(self, estimator, data):
        n = 60
        x, y = related(n, 5, 3)
        x, y = x + 1000, y - 500
        cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=8)))
        parts = []
        for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
            parts.append(cka(estimator=estimator))
            parts[-1].update(x[start:stop], y[start:stop])
        while len(parts) > 1:
            into = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
            into.merge(parts.pop(data.draw(st.integers(0, len(parts) - 1))))
            parts.append(into)
        assert parts[0].compute() == pytest.approx(cka(estimator=estimator)(x, y), abs=1e-8)

    def test_updates_equal_the_whole(self, estimator):
        x, y = (side.float() for side in related(300, 5, 3))
        x, y = x + 3000, y + 3000
        s = cka(estimator=estimator)
        assert s.streams
        for x_part, y_part in zip(x.split(7), y.split(7), strict=True):
            s.update(x_part, y_part)
        assert s.compute() == pytest.approx(s(x, y), abs=1e-8)

    def test_a_huge_mean_needs_the_pilot(self, estimator):
        """Float64 sums around zero would lose 12 of their 16 digits here."""
        x, y = related(300, 5, 3)
        s = cka(estimator=estimator)
        for x_part, y_part in zip((x + 1e6).split(50), (y - 1e6).split(50), strict=True):
            other = cka(estimator=estimator)
            other.update(x_part, y_part)
            s.merge(other)
        assert s.compute() == pytest.approx(s(x, y), abs=1e-7)

    def test_a_first_row_far_away(self, estimator):
        x, y = related(200, 5, 3)
        x[0] += 1e4
        hsic = hsic_biased if estimator == "biased" else hsic_song
        s = cka(estimator=estimator)
        for i in range(200):
            s.update(x[i : i + 1], y[i : i + 1])
        assert s.compute() == pytest.approx(literal(x - x.mean(0), y, "linear", hsic), abs=1e-7)  # ε · 1e8

    def test_merge_leaves_the_other_as_it_is(self, estimator):
        x, y = related(50, 5, 3)
        a, b = cka(estimator=estimator), cka(estimator=estimator)
        a.merge(b)
        b.update(x[:20], y[:20])
        before = b.compute()
        a.merge(b)
        a.update(x[20:], y[20:])
        assert b.compute() == before
        assert a.compute() == pytest.approx(cka(estimator=estimator)(x, y), abs=1e-10)

    def test_reset_and_refusals(self, estimator):
        x, y = related(50, 5, 3)
        s = cka(estimator=estimator)
        with pytest.raises(harness.Undefined, match="no rows"):
            s.compute()
        s.update(x, y)
        before = s.compute()
        with pytest.raises(harness.ConfigError, match="reset"):
            s.update(y, x)
        with pytest.raises(harness.Undefined, match="NaN"):
            s.update(x * math.nan, y)
        assert s.compute() == before
        assert s(y, x) == pytest.approx(before, abs=1e-12)
        s.reset()
        s.update(y, x)
        assert s.compute() == pytest.approx(before, abs=1e-12)

    def test_constant_sides_stay_constant_across_merges(self, estimator):
        """However the rounding of their means differs from part to part."""
        x = rows(400, 3)
        for value in (0.1, 1 / 3, 2.3, 1e5 / 3):
            constant = torch.full((400, 2), value, dtype=torch.float64)
            a, b = cka(estimator=estimator), cka(estimator=estimator)
            a.update(x[:130], constant[:130])
            b.update(x[130:], constant[130:])
            a.merge(b)
            with pytest.raises(harness.Undefined, match="of y with itself"):
                a.compute()
