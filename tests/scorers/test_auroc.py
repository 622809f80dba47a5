"""AUROC and balanced accuracy, against scikit-learn and against trying every cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from harness.plugins.scorers.auroc import auroc, balanced_accuracy, best_threshold

# Few distinct values, so that ties are common; and any values.
SCORES = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=20) | st.lists(
    st.integers(-(10**6), 10**6).map(lambda n: n / 7), min_size=1, max_size=20
)


def _labels(positive: list[float], negative: list[float]) -> tuple[list[bool], list[float]]:
    return [True] * len(positive) + [False] * len(negative), [*positive, *negative]


@given(SCORES, SCORES)
def test_equal_to_scikit_learn(positive: list[float], negative: list[float]) -> None:
    labels, scores = _labels(positive, negative)
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auroc(negative, positive) == pytest.approx(1 - auroc(positive, negative), abs=1e-12)
    cut = scores[0]
    expected = balanced_accuracy_score(labels, [score > cut for score in scores])
    assert balanced_accuracy(positive, negative, cut) == pytest.approx(expected, abs=1e-12)


def test_ties_count_half() -> None:
    assert auroc([1.0, 1.0], [1.0, 1.0, 1.0]) == 0.5
    assert auroc([2.0, 1.0], [1.0, 0.0]) == (1 + 1 + 1 + 0.5) / 4


@given(SCORES, SCORES)
def test_no_cut_is_better_than_the_best_one(positive: list[float], negative: list[float]) -> None:
    best = balanced_accuracy(positive, negative, best_threshold(positive, negative))
    cuts = [-np.inf, *positive, *negative]
    assert best == max(balanced_accuracy(positive, negative, cut) for cut in cuts)


def test_the_cut_is_midway() -> None:
    assert best_threshold([3.0, 4.0], [0.0, 1.0]) == 2.0
    assert best_threshold([0.0], [1.0]) == -np.inf
