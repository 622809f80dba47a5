"""The area under the receiver operating characteristic: does a score rank what it should above what it should not?

AUROC = P(s⁺ > s⁻) + ½ P(s⁺ = s⁻) over all pairs of a positive and a negative, which is the Mann–Whitney U of the
positives over their number of pairs (Hanley & McNeil 1982). Ties count half, so a constant score has exactly ½.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The share of pairs that are ranked correctly.

    Args:
        positive: finite scores of items that should rank high; at least one.
        negative: finite scores of items that should rank low; at least one.
    """
    difference = np.subtract.outer(np.asarray(positive, dtype=float), np.asarray(negative, dtype=float))
    return float(((np.sign(difference) + 1) / 2).mean())


def best_threshold(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The threshold with the largest balanced accuracy of `score > threshold`: midway between two scores, or below all
    if no cut beats chance. Of cuts that are equally good it is the lowest.
    """
    scores = np.unique(np.concatenate([positive, negative]))
    cuts = [-np.inf, *(scores[1:] + scores[:-1]) / 2]
    return float(max(cuts, key=lambda cut: balanced_accuracy(positive, negative, cut)))


def balanced_accuracy(positive: Sequence[float], negative: Sequence[float], threshold: float) -> float:
    """The mean of the shares of positives above the threshold and of negatives not above it; chance is ½."""
    above = [float((np.asarray(scores) > threshold).mean()) for scores in (positive, negative)]
    return (above[0] + 1 - above[1]) / 2
