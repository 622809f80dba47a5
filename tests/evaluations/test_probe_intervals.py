"""Intervals of shares that are all right or nearly so, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from harness.plugins.evaluations.probe_intervals import interval_of_share


@pytest.mark.parametrize("n", [2, 12, 200])
def test_all_right_or_all_wrong_is_the_interval_of_clopper_and_pearson(n: int) -> None:
    for right in (0, n):
        own = binomtest(right, n).proportion_ci(0.95, "exact")
        assert interval_of_share(right / n, 0.0, n) == pytest.approx((own.low, own.high))


def test_many_documents_have_wilson_s_interval() -> None:
    right, n = 70_000, 100_000
    own = binomtest(right, n).proportion_ci(0.95, "wilson")
    assert interval_of_share(0.7, np.sqrt(0.7 * 0.3 / n), n) == pytest.approx((own.low, own.high), abs=1e-6)


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.3])
def test_it_holds_the_auc_of_few_documents(distance: float) -> None:
    """Ten documents are on either side; percentiles of documents drawn anew hold an AUC of .99 39 times in 100."""
    generator, held = np.random.default_rng(0), []
    for _ in range(200):
        high, low = generator.normal(distance, 1, 10), generator.normal(0, 1, 10)
        above = (high[:, None] > low).astype(float)
        drawn = generator.multinomial(10, np.full(10, 0.1), (2, 200))
        found = np.einsum("ri,ij,rj->r", drawn[0], above, drawn[1]) / 100
        lowest, highest = interval_of_share(above.mean(), found.std(), 10)
        held.append(lowest <= norm.cdf(distance / np.sqrt(2)) <= highest)
    assert 0.92 <= np.mean(held) <= 0.995
