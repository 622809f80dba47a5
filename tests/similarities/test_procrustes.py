"""Procrustes distances against scipy, against the rotation itself, and against other quantities of that name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from tests.support.representations import related, rows


def procrustes(form="angular"):
    return harness.create("similarity", "procrustes", form=form)


def unit(x: torch.Tensor, width: int) -> np.ndarray:
    """Centred, of Frobenius norm 1, with columns of zeros up to the width."""
    x = x.double().numpy() - x.double().numpy().mean(axis=0)
    return np.pad(x / np.linalg.norm(x), ((0, 0), (0, width - x.shape[1])))


@pytest.mark.parametrize(("n", "d1", "d2"), [(100, 6, 6), (80, 7, 3), (9, 4, 20), (5, 12, 12)])
class TestDefinition:
    def test_the_rotation_itself(self, n, d1, d2):
        """‖X − YQ‖ and its angle for the Q that scipy finds; any other Q leaves more."""
        scipy = pytest.importorskip("scipy.linalg")
        x, y = related(n, d1, d2)
        unit_x, unit_y = (unit(side, max(d1, d2)) for side in (x, y))
        rotation, nu = scipy.orthogonal_procrustes(unit_y, unit_x)
        distance = np.linalg.norm(unit_x - unit_y @ rotation)
        assert procrustes("normalised")(x, y) == pytest.approx(distance, abs=1e-9)
        assert procrustes("angular")(x, y) == pytest.approx(math.acos(nu), abs=1e-9)
        assert procrustes("angular")(x, y) == pytest.approx(2 * math.asin(distance / 2), abs=1e-9)
        other = np.linalg.qr(np.random.default_rng(0).normal(size=rotation.shape))[0]
        assert np.linalg.norm(unit_x - unit_y @ other) > distance

    def test_scipy_s_disparity(self, n, d1, d2):
        """scipy scales one side once more, by ν, which leaves 1 − ν²: the sine of the angle, squared."""
        scipy = pytest.importorskip("scipy.spatial")
        x, y = related(n, d1, d2)
        disparity = scipy.procrustes(unit(x, max(d1, d2)), unit(y, max(d1, d2)))[2]
        assert math.sin(procrustes()(x, y)) ** 2 == pytest.approx(disparity, abs=1e-9)

    def test_other_quantities_of_that_name(self, n, d1, d2):
        x, y = related(n, d1, d2)
        value = procrustes("normalised")(x, y)
        xc, yc = (side.numpy() - side.numpy().mean(axis=0) for side in (x, y))
        nuclear = np.linalg.norm(xc.T @ yc, "nuc")
        size_and_shape = math.sqrt(np.linalg.norm(xc) ** 2 + np.linalg.norm(yc) ** 2 - 2 * nuclear)
        frobenius = math.sqrt(2 - 2 * np.linalg.norm(xc.T @ yc) / (np.linalg.norm(xc) * np.linalg.norm(yc)))
        uncentred = np.linalg.norm(x.numpy().T @ y.numpy(), "nuc") / np.linalg.norm(x) / np.linalg.norm(y)
        for wrong in (value**2, size_and_shape, frobenius, math.sqrt(2 - 2 * uncentred)):
            assert abs(value - wrong) > 1e-3


def test_values_worked_out_by_hand():
    a = torch.tensor([1.0, -1, 1, -1])
    b = torch.tensor([1.0, 1, -1, -1])
    x = torch.stack([a, b], dim=1)
    # XᵀY = (4, 0)ᵀ: 4 of √8 · √4.
    assert procrustes()(x, a[:, None]) == pytest.approx(math.pi / 4, abs=1e-12)
    assert procrustes("normalised")(x, a[:, None]) == pytest.approx(math.sqrt(2 - math.sqrt(2)), abs=1e-12)
    # Nothing shared is as far as it goes; a reflection, a scale and another origin are no way at all.
    assert procrustes()(a[:, None], b[:, None]) == pytest.approx(math.pi / 2, abs=1e-12)
    assert procrustes("normalised")(a[:, None], b[:, None]) == pytest.approx(math.sqrt(2), abs=1e-12)
    assert procrustes()(x, torch.stack([5 - 3 * b, 3 * a - 1], dim=1)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("form", ["angular", "normalised"])
class TestMetric:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10_000), widths=st.tuples(*[st.integers(1, 6)] * 3), share=st.floats(0.01, 3))
    def test_triangle_inequality(self, form, seed, widths, share):
        """ν itself does not have it, nor does the square of the distance."""
        x = rows(30, widths[0], seed)
        y = x @ rows(widths[0], widths[1], seed + 1) + share * rows(30, widths[1], seed + 2)
        z = y @ rows(widths[1], widths[2], seed + 3) + share * rows(30, widths[2], seed + 4)
        s = procrustes(form)
        assert s(x, z) <= s(x, y) + s(y, z) + 1e-6

    def test_zero_columns_change_nothing(self, form):
        x, y = related(60, 6, 3)
        s = procrustes(form)
        assert s(x, torch.cat([y, torch.zeros(60, 3)], dim=1)) == pytest.approx(s(x, y), abs=1e-12)

    def test_fewer_rows_than_columns_have_a_value(self, form):
        x, y = rows(10, 20), rows(10, 20, seed=1)
        assert 0.1 < procrustes(form)(x, y) < procrustes(form).range[1]


def test_form_is_checked():
    with pytest.raises(harness.ConfigError, match="form"):
        procrustes("squared")
