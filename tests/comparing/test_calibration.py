"""Values beside those of random pairings: p-value, quantile and calibrated score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.comparing.calibration import calibrate
from harness.comparing.permutations import among

VALUES = st.lists(st.floats(-1, 1, width=16), min_size=19, max_size=60)


def _published(value: float, permuted: list[float], best: float) -> tuple[float, float, float]:
    """Algorithm 1 of arXiv 2602.14486, by counting: the smallest of all values that a share of .95 does not exceed."""
    both = [value, *permuted]
    quantile = min(v for v in both if sum(w <= v for w in both) >= 0.95 * len(both) - 1e-9)
    score = max(0.0, (value - quantile) / (best - quantile)) if best > quantile else 0.0
    return (1 + sum(other >= value for other in permuted)) / len(both), quantile, score


@given(st.floats(-1, 1, width=16), VALUES)
def test_it_is_the_published_algorithm(value: float, permuted: list[float]) -> None:
    found = calibrate(value, permuted, True, 1.0)
    assert (found.p_value, found.quantile, found.score) == pytest.approx(_published(value, permuted, 1.0))
    assert found.score is not None and 0 <= found.score <= 1
    assert found.score == 0 or found.p_value <= 0.05 + 1e-9


@given(st.floats(-1, 1, width=16), VALUES)
def test_of_a_distance_all_is_the_other_way_round(value: float, permuted: list[float]) -> None:
    as_distance = calibrate(1 - value, [1 - other for other in permuted], False, 0.0)
    found = calibrate(value, permuted, True, 1.0)
    assert as_distance.p_value == found.p_value and as_distance.score == pytest.approx(found.score)
    assert as_distance.quantile == pytest.approx(1 - found.quantile)


def test_values_worked_out_by_hand() -> None:
    permuted = [i / 100 for i in range(1, 20)]  # 19 of them: .01 to .19
    found = calibrate(0.6, permuted, True, 1.0)
    assert (found.p_value, found.quantile) == (0.05, 0.19) and found.score == pytest.approx(0.41 / 0.81)
    assert calibrate(0.1, permuted, True, 1.0).p_value == 11 / 20  # ties count
    assert calibrate(0.19, permuted, True, 1.0).score == 0
    assert calibrate(1.0, permuted, True, 1.0).score == 1
    assert calibrate(0.6, permuted, True, math.inf).score is None
    assert calibrate(1.0, [1.0] * 19, True, 1.0).score == 0  # random pairings are as good as can be


def test_unrelated_rows_are_called_alike_as_seldom_as_it_says() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal((4000, 40))
    found = [calibrate(float(own[0]), own[1:].tolist(), True, 9.0) for own in drawn]
    assert np.mean([one.p_value <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.01)
    assert np.mean([one.score is not None and one.score > 0 for one in found]) <= 0.06


def test_masked_rows_drop_out_of_a_pairing_and_leave_the_rest() -> None:
    order = torch.tensor([2, 0, 3, 1, 4])
    assert among(order, torch.tensor([True, True, True, True, True])).tolist() == [2, 0, 3, 1, 4]
    assert among(order, torch.tensor([True, True, False, True, True])).tolist() == [2, 0, 1, 3]  # 0 has 3 in place of 2
    assert among(order, torch.tensor([False, False, False, True, True])).tolist() == [0, 1]


def test_a_pairing_of_what_is_kept_is_any_with_equal_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    kept = torch.tensor([True, False, True, True, False])
    found = [tuple(among(torch.randperm(5, generator=generator), kept).tolist()) for _ in range(3000)]
    counts = {order: found.count(order) for order in set(found)}
    assert len(counts) == 6 and all(abs(count - 500) < 100 for count in counts.values())
