"""The alarm: a conformal test of whether the scores of a stream are still exchangeable with those of calibration.

The t-th score of the stream, a, is ranked among the n scores of calibration and of the stream before it:

    p = (#{a_i > a} + u · (#{a_i = a} + 1)) / (n + 1),   u uniform in (0, 1)

If all scores are exchangeable, these p are independent and uniform, whatever the distribution (Vovk, Gammerman & Shafer
2005, Algorithmic Learning in a Random World, prop. 2.8). Each of 19 bets ε = .05, .10, … .95 multiplies what it has by
ε q^(ε−1), once with q = p (scores rise) and once with q = 1 − p (they fall); each starts anew at every document, and

    R_t = (1 + R_{t−1}) · ε q_t^(ε−1),   R = the mean over all 38

is a Shiryaev–Roberts statistic: R_t − t is a martingale, so P(R reaches H within n documents) ≤ n / H, and the mean
number of documents until a false alarm is at least H (Pollak 1985; Shin, Ramdas & Rinaldo 2022, arXiv 2203.03532).

u depends on the seed and t alone, so that a stream which goes on after an interruption has the same numbers.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

BETS = np.arange(1, 20) / 20
"""The exponents ε."""
_UNIT_BITS = 52
"""Bits of u, few enough for neither 0 nor 1 to be among its values."""


class Martingale:
    """The evidence against exchangeability, score by score. Keeps every score: 8 bytes a document, and a copy sorted.

    Args:
        calibration: scores of documents that the decomposition was not fitted on.
        horizon: H, the evidence that raises the alarm.
        seed: of the u that break ties.
    """

    def __init__(self, calibration: Iterable[float], horizon: float, seed: int) -> None:
        self._sorted = sorted(map(_finite, calibration))
        self._horizon, self._seed = horizon, seed
        self._log_sums: Float[np.ndarray, " 38"] = np.full(2 * len(BETS), -math.inf)
        self.scores: list[float] = []
        """Scores of the stream so far."""
        self.alarm_document: int | None = None
        """The number of the document that raised the alarm, from 0 on; None if none has."""

    @property
    def n_documents(self) -> int:
        return len(self.scores)

    @property
    def log_evidence(self) -> float:
        """The logarithm of R; −∞ before the first document."""
        return float(np.logaddexp.reduce(self._log_sums) - math.log(len(self._log_sums)))

    @property
    def false_alarm_bound(self) -> float:
        """The most that the probability of an alarm by now can be where nothing has changed."""
        return min(1.0, self.n_documents / self._horizon)

    def add(self, score: float) -> None:
        """Take the score of the next document."""
        p = self._p_value(_finite(score))
        log_q = np.log([p, 1 - p])
        bets = (np.log(BETS)[None] + (BETS - 1)[None] * log_q[:, None]).ravel()
        # In logarithms: a few hundred documents of another kind would overflow.
        self._log_sums = np.logaddexp(0.0, self._log_sums) + bets
        bisect.insort(self._sorted, score)
        self.scores.append(score)
        if self.alarm_document is None and self.log_evidence >= math.log(self._horizon):
            self.alarm_document = self.n_documents - 1

    def _p_value(self, score: float) -> float:
        n = len(self._sorted)
        low, high = bisect.bisect_left(self._sorted, score), bisect.bisect_right(self._sorted, score)
        u = tie_break(self._seed, self.n_documents)
        return (n - high + u * (high - low + 1)) / (n + 1)


def tie_break(seed: int, document: int) -> float:
    """The u of the document with a number, uniform in (0, 1)."""
    digest = hashlib.blake2b(f"tie/{seed}/{document}".encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> (64 - _UNIT_BITS)) + 0.5) / 2.0**_UNIT_BITS


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise ValueError(f"a document's score is {score}")
    return float(score)
