"""The alarm keeps its bound, whatever the distribution, and comes soon after a change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.monitoring.martingale import Martingale, tie_break

_HORIZON = 1000.0


def _alarms(calibration: np.ndarray, stream: np.ndarray, seed: int = 0) -> int | None:
    martingale = Martingale(calibration, _HORIZON, seed)
    for score in stream:
        martingale.add(score)
    return martingale.alarm_document


@pytest.mark.parametrize(("kind", "n_streams"), [("continuous", 500), ("ties", 150)])
def test_false_alarms_stay_below_their_bound(kind: str, n_streams: int) -> None:
    n_documents, n_alarms = 100, 0
    for seed in range(n_streams):
        draw = np.random.default_rng(seed)
        scores = draw.standard_cauchy(200) if kind == "continuous" else draw.integers(0, 3, 200).astype(float)
        n_alarms += _alarms(scores[:100], scores[100:], seed) is not None
    assert 0 < n_alarms / n_streams <= n_documents / _HORIZON


def test_a_change_raises_the_alarm_within_ten_documents() -> None:
    for shift in (3.0, -3.0):
        delays = []
        for seed in range(20):
            draw = np.random.default_rng(seed)
            stream = np.concatenate([draw.normal(size=50), draw.normal(shift, 1, 50)])
            document = _alarms(draw.normal(size=200), stream, seed)
            assert document is not None and document >= 50
            delays.append(document - 49)
        assert np.median(delays) <= 10


def test_evidence_is_that_of_the_definition() -> None:
    """Term by term, with SciPy's ranks for the p-values."""
    draw = np.random.default_rng(1)
    past, sums = list(draw.integers(0, 4, 30).astype(float)), np.zeros((2, 19))
    martingale = Martingale(past, _HORIZON, 7)
    for t, score in enumerate(draw.integers(1, 5, 25).astype(float)):
        martingale.add(score)
        ranks = {how: stats.rankdata([-score, *(-other for other in past)], method=how)[0] for how in ("min", "max")}
        ties = ranks["max"] - ranks["min"] + 1  # the score itself among them
        p = (ranks["min"] - 1 + tie_break(7, t) * ties) / (len(past) + 1)
        past.append(score)
        for side, q in enumerate((p, 1 - p)):
            for place in range(19):
                bet = (place + 1) / 20
                sums[side, place] = (1 + sums[side, place]) * bet * q ** (bet - 1)
        assert martingale.log_evidence == pytest.approx(math.log(sums.mean()), rel=1e-12)


def test_p_values_of_exchangeable_scores_are_uniform_and_unordered() -> None:
    """Ties are broken at random: without that p-values of few distinct scores would not be uniform."""
    draw = np.random.default_rng(0)
    martingale = Martingale(draw.integers(0, 3, 50).astype(float), _HORIZON, 3)
    found = []
    for score in draw.integers(0, 3, 2000).astype(float):
        found.append(martingale._p_value(score))
        martingale.add(score)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert abs(stats.spearmanr(found[1:], found[:-1]).statistic) < 0.06


def test_long_changes_do_not_overflow() -> None:
    martingale = Martingale(np.arange(100.0), _HORIZON, 0)
    for score in range(1000, 6000):
        martingale.add(float(score))
    assert math.isfinite(martingale.log_evidence)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        Martingale([0.0], _HORIZON, 0).add(math.nan)
