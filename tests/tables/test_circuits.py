"""Intervals of ratios over groups, against textbooks' where these have one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.tables.circuits import ratio_replicates
from harness.tables.intervals import contrast, interval


def test_with_equal_denominators_it_is_the_interval_of_a_mean() -> None:
    """Symmetric values, so that the bend by skewness is nothing: value ± t s/√n."""
    values = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0]) + 2
    found = ratio_replicates([(values * 4, np.full(6, 4.0))])
    assert found is not None
    half = stats.t.ppf(0.975, 5) * values.std(ddof=1) / np.sqrt(6)
    assert (found.value, *interval(found)) == pytest.approx((2, 2 - half, 2 + half))


def test_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(0), 0
    for _ in range(400):
        whole = draw.uniform(1, 3, 12)
        found = ratio_replicates([(0.7 * whole + draw.normal(0, 0.4, 12), whole)])
        assert found is not None
        low, high = interval(found)
        held += low <= 0.7 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_differences_are_paired_by_group() -> None:
    draw = np.random.default_rng(1)
    whole, common = draw.uniform(1, 2, 10), draw.normal(0, 1, 10)
    a, b = (ratio_replicates([(common + shift * whole, whole)]) for shift in (1.0, 0.5))
    assert a is not None and b is not None
    low, high = interval(contrast(a, b))
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)
    assert interval(a)[1] - interval(a)[0] > 0.3


def test_seeds_that_differ_widen_it() -> None:
    draw = np.random.default_rng(2)
    whole, common = np.ones(12), draw.normal(1, 0.1, 12)
    one = ratio_replicates([(common, whole)])
    several = ratio_replicates([(common + shift, whole) for shift in (-0.5, 0.0, 0.5)])
    assert one is not None and several is not None and several.n_seeds == 3
    assert several.value == pytest.approx(one.value)
    assert np.diff(interval(several)) > 3 * np.diff(interval(one))


def test_one_group_that_holds_all_says_nothing() -> None:
    assert ratio_replicates([(np.ones(6), np.eye(6)[0])]) is None
