"""Calibrated similarity: how far a value is above those of rows that are paired at random (no torch here).

After Gröger, Wen & Brbić 2026 (arXiv 2602.14486, algorithms 1 and 2). Width, number of rows and the choice of the best
of many layers raise values of unrelated rows too. With s the value, s_1 … s_K those of K random pairings of the same
rows, and more being more alike:

    p          = (1 + #{k: s_k ≥ s}) / (K + 1), the permutation p-value; at least 1/(K + 1)
    quantile   = τ, the ⌈(1 − α)(K + 1)⌉-th smallest of s, s_1 … s_K, α = .05
    calibrated = max(0, (s − τ) / (s_best − τ)), s_best the most that the metric can reach

Unrelated rows have a calibrated score above 0 in at most α of all cases, and a value as good as can be has 1. For a
distance, of which less is more alike, all is the other way round: s_k ≤ s, the ⌈(1 − α)(K + 1)⌉-th largest, and s_best
the least it can be.

A score of many values (the best of many layers) is calibrated as one number: s_k is the same score of all values under
the k-th pairing, which is one for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.05


@dataclass(frozen=True)
class Calibrated:
    """A value beside those of rows paired at random."""

    p_value: float
    quantile: float
    score: float | None
    """The calibrated score; None for a metric without a value that is the most alike."""


def calibrate(value: float, permuted: Sequence[float], higher_is_more_similar: bool, best: float) -> Calibrated:
    """Set a value beside those of random pairings.

    Args:
        value: of the rows as they belong together.
        permuted: of the same rows paired at random, all finite.
        higher_is_more_similar: False for a distance.
        best: the end of the metric's range where sides are most alike; infinite if there is none.
    """
    sign = 1 if higher_is_more_similar else -1
    own, others = sign * value, [sign * other for other in permuted]
    n = len(others) + 1
    # Less a rounding error of the product, which would count as a whole place: .95 · 20 must give 19.
    place = math.ceil((1 - ALPHA) * n - 1e-9)
    quantile = sorted([own, *others])[place - 1]
    p_value = (1 + sum(other >= own for other in others)) / n
    return Calibrated(p_value, sign * quantile, calibrated(value, sign * quantile, best))


def calibrated(value: float, quantile: float, best: float) -> float | None:
    """A value on the scale where the quantile of random pairings, and all below it, is 0 and the best value 1."""
    if not math.isfinite(best):
        return None
    above, most = (value - quantile), (best - quantile)
    return min(1.0, above / most) if above * most > 0 else 0.0
