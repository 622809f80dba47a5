"""SVCCA against its definition in numpy, against scikit-learn's CCA, and against wrong versions that are in use."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from tests.support.representations import moved, parts_merged, related, rows


def svcca(**params):
    return harness.create("similarity", "svcca", **params)


def directions(x: torch.Tensor, variance: float, power: int = 2, n_kept: int | None = None) -> np.ndarray:
    """The kept left singular vectors of the centred rows, of all rows at once and in one piece."""
    x = x.double().numpy()
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    shares = np.cumsum(s**power) / np.sum(s**power)
    return u[:, : n_kept or 1 + int(np.argmax(shares >= variance - 1e-12))]


def literal(x: torch.Tensor, y: torch.Tensor, variance: float = 0.99, power: int = 2, n_kept: int | None = None):
    """Björck & Golub 1973: cosines of the principal angles between two orthonormal bases."""
    u, v = directions(x, variance, power, n_kept), directions(y, variance, power, n_kept)
    return np.linalg.svd(u.T @ v, compute_uv=False).mean()


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize(("n", "d1", "d2"), [(200, 12, 12), (300, 20, 5), (100, 3, 30)])
def test_equals_the_definition(variance, n, d1, d2):
    x, y = related(n, d1, d2)
    wanted = literal(x, y, variance)
    assert svcca(variance=variance)(x, y) == pytest.approx(wanted, abs=1e-9)
    streamed = svcca(variance=variance)
    for parts in zip(x.split(37), y.split(37), strict=True):
        streamed.update(*parts)
    assert streamed.compute() == pytest.approx(wanted, abs=1e-9)


def test_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.cross_decomposition")
    x, y = related(250, 6, 4)
    model = sklearn.CCA(n_components=4, max_iter=5000, tol=1e-10)
    scores = model.fit_transform(x.numpy(), y.numpy())
    wanted = np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(*(side.T for side in scores), strict=True)])
    assert svcca(variance=1.0)(x, y) == pytest.approx(wanted, abs=1e-6)


def test_wrong_versions_give_other_values():
    x, y = related(300, 12, 12)
    value = svcca(variance=0.9)(x, y)
    shares_of_s = literal(x, y, 0.9, power=1)
    normalised_shares_against_a_total = literal(x, y, n_kept=1)
    uncentred = np.linalg.svd(
        np.linalg.svd(x.numpy(), full_matrices=False)[0].T @ np.linalg.svd(y.numpy(), full_matrices=False)[0],
        compute_uv=False,
    ).mean()
    for wrong in (shares_of_s, normalised_shares_against_a_total, uncentred):
        assert abs(value - wrong) > 0.01


def test_values_worked_out_by_hand():
    a = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])
    b = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])
    c = torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1])
    x, y = torch.stack([a, 2 * b], dim=1), torch.stack([3 * b, c], dim=1)
    assert svcca(variance=1.0)(x, y) == pytest.approx(0.5, abs=1e-12)  # b is in both, a and c in one
    assert svcca(variance=0.8)(x, y) == pytest.approx(1.0, abs=1e-12)  # b holds 4/5 and 9/10
    equal = torch.stack([a, b, c, a * b], dim=1)
    # Of four equal directions three reach 3/4: any three of these four, but all of them lie in the span of itself.
    assert svcca(variance=0.75)(equal, equal) == pytest.approx(1.0, abs=1e-12)


class TestProperties:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6), st.sampled_from([0.9, 0.99, 1.0]))
    def test_invariances(self, seed, d1, d2, variance):
        x, y = related(80, d1, d2, seed)
        s = svcca(variance=variance)
        value = s(x, y)
        assert s.range[0] <= value <= s.range[1]
        for name, changed in moved(x).items():
            if name in s.invariant_to or variance == 1.0:  # of all directions it is plain CCA
                assert s(changed, y) == pytest.approx(value, abs=1e-7), name
                assert s(y, changed) == pytest.approx(value, abs=1e-7), name

    def test_not_invariant_to_invertible_maps(self):
        x, y = related(80, 6, 4)
        assert abs(svcca()(moved(x)["invertible"], y) - svcca()(x, y)) > 0.01

    def test_itself_is_one_and_noise_lowers_it(self):
        x, noise = rows(400, 5), rows(400, 5, seed=3)
        values = [svcca()(x, x + share * noise) for share in (0.0, 0.1, 1.0, 10.0)]
        assert values[0] == pytest.approx(1.0, abs=1e-12) and values[0] <= 1
        assert values == sorted(values, reverse=True)
        order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
        assert svcca()(x, x[order]) < 0.3

    def test_float32_rows_with_a_large_mean(self):
        x, y = (side.float() + 3000 for side in related(400, 8, 6))
        assert svcca()(x, y) == pytest.approx(literal(x, y), abs=1e-9)
        exact = literal(*related(400, 8, 6))
        assert svcca()(x, y) == pytest.approx(exact, abs=1e-4)

    @pytest.mark.parametrize(("variance", "error"), [(0.9, 1e-5), (0.99, 1e-5), (0.991, 1e-9), (1.0, 1e-9)])
    def test_float32_rows_of_which_one_direction_has_most_variance(self, variance, error):
        """A rotated copy: whiteners amplify rounding, and no correlation may exceed 1 by it."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(600, 64, generator=generator)
        x[:, 0] *= 30
        y = (x.double() @ torch.linalg.qr(torch.randn(64, 64, generator=generator).double())[0]).float()
        assert svcca(variance=variance)(x, y) == pytest.approx(literal(x, y, variance), abs=error)


class TestUndefined:
    def test_too_few_rows(self):
        x, y = rows(10, 20), rows(10, 20, seed=1)
        with pytest.raises(harness.Undefined, match="10 rows are too few: 9 directions"):
            svcca(variance=1.0)(x, y)
        with pytest.raises(harness.Undefined, match="too few"):
            svcca(variance=1.0)(rows(5, 4), rows(5, 2))
        assert svcca(variance=1.0)(rows(6, 4), rows(6, 2)) <= 1
        with pytest.raises(harness.Undefined, match="no rows"):
            svcca()(x[:0], y[:0])

    def test_constant_rows(self):
        x = rows(40, 4)
        constant = torch.full((40, 3), 0.1, dtype=torch.float64)
        for side, pair in {"y": (x, constant), "x": (constant.float() + 3000, x)}.items():
            with pytest.raises(harness.Undefined, match=f"the rows of {side} are constant"):
                svcca()(*pair)

    def test_scales_beyond_float64(self):
        x = rows(40, 4)
        with pytest.raises(harness.Undefined, match="rescale"):
            svcca()(x, x * 1e200)

    @pytest.mark.parametrize("variance", [0.0, -0.1, 1.1, math.nan])
    def test_variance_is_checked(self, variance):
        with pytest.raises(harness.ConfigError, match="variance"):
            svcca(variance=variance)


def test_directions_that_rows_do_not_have_are_not_compared():
    """A rank of 4 in 10 columns: a QR of these would invent six directions."""
    x, y = related(200, 4, 6)
    wide = x @ torch.randn(4, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for offset in (0, 1000):
        assert svcca(variance=1.0)(wide + offset, y) == pytest.approx(svcca(variance=1.0)(x, y), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_split_and_merge_order(data):
    x, y = related(90, 5, 3)
    x, y = x + 1000, y - 500
    cuts = sorted(data.draw(st.sets(st.integers(1, 89), max_size=8)))
    streamed = parts_merged(svcca, x, y, cuts, lambda n: data.draw(st.integers(0, n - 1)))
    assert streamed == pytest.approx(svcca()(x, y), abs=1e-8)


def test_reset():
    x, y = related(90, 5, 3)
    s = svcca()
    s.update(x, y)
    s.reset()
    with pytest.raises(harness.Undefined, match="no rows"):
        s.compute()
    s.update(y, x)
    assert s.compute() == pytest.approx(svcca()(x, y), abs=1e-12)
