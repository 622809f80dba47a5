"""Intervals cover the truth as often as they say, tiers separate what differs and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tables.stats import (
    MIN_DOCUMENTS,
    Measured,
    OfModels,
    interval,
    model_replicates,
    pareto,
    replicates,
    tiers,
)


def _measured(means: np.ndarray, rows: np.ndarray) -> Measured:
    """A metric whose mean is `means` [seeds, documents] in documents of `rows` rows."""
    return Measured(means * rows, np.broadcast_to(rows, means.shape).astype(float))


def _drawn(generator: np.random.Generator, seeds: int, documents: int, spread_of_seeds: float) -> Measured:
    """Sums of a method whose true value is 0.5."""
    of_seed = 0.5 + spread_of_seeds * generator.standard_normal((seeds, 1))
    of_document = 0.1 * generator.standard_normal(documents)
    return _measured(of_seed + of_document, generator.integers(50, 150, documents))


@pytest.mark.parametrize(
    ("seeds", "documents", "spread_of_seeds"), [(3, 60, 0.05), (5, 60, 0.0), (2, 40, 0.02), (3, 100, 0.1)]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, documents: int, spread_of_seeds: float) -> None:
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(100):
        (values,) = replicates([_drawn(generator, seeds, documents, spread_of_seeds)])
        assert values is not None
        low, high = interval(values)
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) >= 0.90  # drawing three seeds anew instead: .80
    assert seeds == 2 or np.mean(covered) <= 0.995  # two say little of how seeds differ: their interval is wide


def test_the_value_is_the_mean_over_seeds_of_the_ratio_of_sums() -> None:
    method = Measured(np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[2.0, 4.0], [2.0, 4.0]]))
    assert method.value == pytest.approx((3 / 6 + 8 / 6) / 2)


def test_one_seed_or_few_documents_give_no_interval() -> None:
    generator = np.random.default_rng(0)
    assert replicates([_drawn(generator, 1, 100, 0.1)]) == [None]
    few = _drawn(generator, 3, MIN_DOCUMENTS + 5, 0.1)
    few.denominators.flags.writeable = True
    few.numerators[:, :6] = few.denominators[:, :6] = 0  # documents without a row
    assert replicates([few]) == [None]
    assert replicates([]) == []


def test_documents_without_rows_change_nothing() -> None:
    generator = np.random.default_rng(0)
    method = _drawn(generator, 3, 30, 0.01)
    padded = Measured(*(np.insert(side, [0, 7], 0, axis=1) for side in (method.numerators, method.denominators)))
    np.testing.assert_array_equal(replicates([method])[0], replicates([padded])[0])


def test_differences_are_paired_by_document() -> None:
    """Methods that differ by little in every document are told apart, however much documents differ."""
    generator = np.random.default_rng(0)
    rows = generator.integers(50, 150, 40)
    documents = generator.standard_normal(40)
    seeds = 1e-4 * generator.standard_normal((2, 5, 40))
    good, bad = (_measured(documents + shift + noise, rows) for shift, noise in zip((0.01, 0.0), seeds, strict=True))
    values = replicates([good, bad])
    assert interval(values[0])[0] < bad.value < good.value  # apart, each interval holds both
    assert tiers([good.value, bad.value], values) == [1, 2]


def test_tiers_follow_the_leader_of_each() -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(2000)
    values = [0.90 + 0.01 * noise, 0.70 + 0 * noise, None, 0.895 + 0.01 * noise[::-1], 0.69 + 0.02 * noise]
    assert tiers([0.90, 0.70, 0.99, 0.895, 0.69], values) == [1, 2, None, 1, 2]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-1, 1)), max_size=12))
def test_pareto_points_are_those_that_none_beats(points: list[tuple[float, float]]) -> None:
    costs, values = [cost for cost, _ in points], [value for _, value in points]
    for (cost, value), is_front in zip(points, pareto(costs, values), strict=True):
        beaten = [c <= cost and v >= value and (c, v) != (cost, value) for c, v in points]
        assert is_front == (not any(beaten))


def _of_pairs(effects: np.ndarray, noise: np.ndarray) -> OfModels:
    """Each model has an effect, each ordered pair of different models an error of its own; the truth is 0."""
    values = effects[:, None] + effects[None] + noise
    between = 1.0 - np.eye(len(effects))
    return OfModels(values * between, between)


@pytest.mark.parametrize(("n_models", "spread"), [(5, 1.0), (5, 0.2), (10, 1.0), (10, 0.2)])
def test_intervals_over_models_hold_the_truth(n_models: int, spread: float) -> None:
    """Without what makes Student's t of the bootstrap it would be 80 in 100 for five models of large effects."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        score = _of_pairs(
            generator.normal(0, spread, n_models), generator.normal(0, 0.3 * spread, (n_models, n_models))
        )
        drawn = model_replicates(score)
        assert drawn is not None
        low, high = interval(drawn)
        held += low <= 0 <= high
    assert held >= 88


def test_replicates_of_models_by_hand() -> None:
    """Two models of three agree, the third is apart; what stands on the diagonal counts once for each draw."""
    between, own = np.zeros((3, 3)), np.diag([1.0, 2.0, 6.0])
    score = OfModels(own + between, np.eye(3))
    drawn = model_replicates(score)
    assert drawn is not None
    assert score.value == 3
    assert drawn.mean() == pytest.approx(3, abs=0.4)  # of t with 2 degrees, whose mean has no standard error
    # Of single numbers it is the ordinary bootstrap of a mean: its spread is that of the mean, σ/√(n−1) here, made t.
    plain = np.std([1, 2, 6]) / np.sqrt(3) * np.sqrt(3 / 2)
    inner = np.quantile(drawn, [0.25, 0.75])
    assert inner[1] - inner[0] == pytest.approx(2 * 0.8165 * plain, rel=0.25)  # quartiles of t with 2 degrees


def test_models_that_agree_give_no_width_and_two_no_interval() -> None:
    agree = OfModels(np.ones((4, 4)), np.ones((4, 4)))
    drawn = model_replicates(agree)
    assert drawn is not None and np.ptp(drawn) < 1e-12
    assert model_replicates(OfModels(np.ones((2, 2)), np.ones((2, 2)))) is None
    # Models without a part in a score are none of its models.
    padded = np.zeros((9, 9))
    padded[:2, :2] = 1
    assert model_replicates(OfModels(padded, padded)) is None


def test_the_same_models_are_drawn_for_every_score() -> None:
    """Else a difference of two scores would have the spread of both, and tiers would be too wide."""
    generator = np.random.default_rng(0)
    score = _of_pairs(generator.normal(size=6), generator.normal(size=(6, 6)))
    better = OfModels(score.numerator + 0.5 * score.denominator, score.denominator)
    one, other = model_replicates(score), model_replicates(better)
    assert one is not None and other is not None
    np.testing.assert_allclose(other - one, 0.5)
    assert tiers([0.0, 0.5], [one, other]) == [2, 1]
