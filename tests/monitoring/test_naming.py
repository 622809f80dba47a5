"""Names are wrong in few batches, and found where there is something to find."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import sparse, stats

import harness
from harness.monitoring.naming import LEVEL, adjusted_p_values, changed_poles
from tests.support.streams import N_LATENTS, RATES, drawn_documents


def test_unchanged_batches_name_nobody() -> None:
    wrong = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        wrong += bool(changed_poles(drawn_documents(draw, 100), drawn_documents(draw, 16), seed))
    assert wrong <= stats.binom.ppf(0.99, 200, LEVEL) <= 0.06 * 200


def test_latents_that_fire_three_times_as_often_are_named() -> None:
    found, wrong = [], 0
    for seed in range(10):
        draw = np.random.default_rng(seed)
        planted = draw.choice(np.flatnonzero(RATES > 0.005), 10, replace=False)
        reference, batch = drawn_documents(draw, 200), drawn_documents(draw, 32, planted.tolist(), 3.0)
        changes = changed_poles(reference, batch, seed)
        named = {change.pole // 2 for change in changes}
        found.append(len(named & set(planted.tolist())) / 10)
        wrong += bool(named - set(planted.tolist()))
        for change in changes:
            if change.pole // 2 in planted:
                assert change.log_ratio is not None and change.log_ratio_low is not None
                assert change.log_ratio_low > 0 and math.exp(change.log_ratio) == pytest.approx(3, rel=0.8)
    assert np.mean(found) >= 0.8
    assert wrong <= 2


def test_p_values_are_those_of_all_draws_taken_one_by_one() -> None:
    """Against SciPy's exact permutation test of the largest statistic, written out; 199 draws come near all 4,845."""
    draw = np.random.default_rng(3)
    reference, batch = drawn_documents(draw, 16), drawn_documents(draw, 4, range(60, 80), 6.0)
    poles, p_values = adjusted_p_values(reference, batch, 0, n_draws=1999)
    fired = np.vstack([reference.fired.toarray(), batch.fired.toarray()])[:, poles].astype(float)
    n_rows = np.concatenate([reference.n_rows, batch.n_rows])
    residuals = fired - fired.sum(axis=0) / n_rows.sum() * n_rows[:, None]
    reach = 3 * np.sqrt((residuals**2).mean(axis=0))
    residuals = np.minimum(np.maximum(residuals, -reach), reach)
    residuals = residuals - residuals.mean(axis=0)
    deviations = residuals.std(axis=0)

    def largest(chosen: np.ndarray) -> float:
        return float(np.abs(residuals[list(chosen)].sum(axis=0) / deviations).max())

    every = np.array([largest(np.array(chosen)) for chosen in itertools.combinations(range(20), 4)])
    own = np.abs(residuals[16:].sum(axis=0) / deviations)
    exact = (every[None] >= own[:, None] - 1e-9).mean(axis=1)
    assert exact.min() < 0.05
    assert np.abs(p_values - exact).max() < 0.04
    one = int(np.argmax(own))
    alone = stats.permutation_test(
        (residuals[16:, one], residuals[:16, one]),
        lambda x, y: abs(x.sum()),
        alternative="greater",
        n_resamples=np.inf,
    )
    assert alone.pvalue <= exact[one] + 1e-9  # adjusting for many can't make it smaller


def test_ratios_and_their_intervals_hold_the_truth() -> None:
    inside = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        reference, batch = drawn_documents(draw, 100), drawn_documents(draw, 32, [79], 2.0)
        both = changed_poles(reference, batch, 0)
        change = next((change for change in both if change.pole == 158), None)
        if change is None:
            from harness.monitoring.naming import _change

            change = _change(reference, batch, 158, 1.0)
        assert change.log_ratio_low is not None and change.log_ratio_high is not None
        inside += change.log_ratio_low <= math.log(2) <= change.log_ratio_high
    assert inside >= 90


def test_what_never_fired_before_has_no_ratio() -> None:
    fired = np.zeros((40, 2), np.int64)
    fired[20:, 0] = 3
    rows, scores = np.full(20, 10), np.zeros(20)
    halves = [
        harness.WatchedDocuments(tuple(map(str, range(20))), rows, scores, sparse.csr_array(half))
        for half in (fired[:20], fired[20:])
    ]
    (change,) = changed_poles(*halves, seed=0)
    assert (change.rate, change.reference_rate, change.log_ratio) == (0.3, 0.0, None)


def test_a_single_document_names_nobody() -> None:
    """A latent of one document would be named whenever that document is in the batch."""
    fired = np.zeros((40, 2 * N_LATENTS), np.int64)
    fired[39, 0] = 50
    rows = np.full(20, 60)
    halves = [
        harness.WatchedDocuments(tuple(map(str, range(20))), rows, np.zeros(20), sparse.csr_array(half))
        for half in (fired[:20], fired[20:])
    ]
    assert changed_poles(*halves, seed=0) == []
