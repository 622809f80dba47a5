"""Intervals of a probe's scores, which are shares: of documents that are classified rightly, or of pairs in order.

With p the score, s its standard deviation over documents drawn anew, and n the number of test documents on the rarer
side of a label (of the rarest label, where there are several tasks), the 95 % interval holds every share π with

    |p − π| ≤ t √(π (1 − π) / m),   m = p (1 − p) / s²  · (n − 1) / n,

the score interval of Wilson 1927 (JASA 22) for as many answers m as vary like the score. t is Student's, of n − 1
degrees of freedom: n documents say that little of s. A score of 0 or 1 has no spread that shows; its interval ends
where n documents would all agree one time in 40, at .025^(1/n) (Clopper & Pearson 1934).

In 400 simulated sets of 10 to 60 test documents with AUCs of .5 to .99 it held the truth 92 to 99 times in 100, F1 of a
rare label down to 88; percentiles of documents drawn anew, 39 to 95.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

_TAIL = 0.025
_ROUNDING = 1e-12


def interval_of_share(share: float, deviation: float, n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a score.

    Args:
        share: the score.
        deviation: its standard deviation over draws of the n documents.
        n: the number of documents that are drawn, at least 2.
    """
    if deviation <= _ROUNDING or min(share, 1 - share) <= _ROUNDING:
        reach = 1 - _TAIL ** (1 / n)
        return max(0.0, share - reach), min(1.0, share + reach)
    variance = deviation**2 * n / (n - 1)
    t_squared = stdtrit(n - 1, 1 - _TAIL) ** 2 * variance / (share * (1 - share))
    centre, half = share + t_squared / 2, np.sqrt(t_squared * (share * (1 - share) + t_squared / 4))
    return float((centre - half) / (1 + t_squared)), float((centre + half) / (1 + t_squared))
