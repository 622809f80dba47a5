"""Likeness and average linkage, against the textbook forms on all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from harness.plugins.grouping import likeness as likenesses
from harness.plugins.grouping.likeness import Likeness, cofiring, cosine
from harness.plugins.grouping.linkage import average_linkage
from harness.plugins.grouping.significance import null_height
from tests.grouping.test_firing import read, sparse


def matrix(likeness: Likeness) -> np.ndarray:
    found = np.zeros((likeness.n_poles, likeness.n_poles))
    found[likeness.first, likeness.second] = likeness.values
    return found + found.T


def test_phi_is_the_correlation_of_two_indicators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likenesses, "_MAX_PAIRS", 200)  # several blocks of columns
    firing = read(sparse(n=500, m=20), 20)
    wanted = np.corrcoef(firing.matrix.toarray().T)
    np.fill_diagonal(wanted, 0)
    fire_together = firing.matrix.T @ firing.matrix
    wanted = np.where((fire_together.toarray() > 0) & (wanted > 0), wanted, 0)
    assert np.allclose(matrix(cofiring(firing)), wanted, atol=1e-7)


def test_each_keeps_its_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likenesses, "_MAX_PAIRS", 200)
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[7] = 0
    norms = rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
    cosines = ((rows / norms) @ (rows / norms).T).numpy()
    np.fill_diagonal(cosines, 0)
    is_kept = (-cosines).argsort(axis=1).argsort(axis=1) < 3
    wanted = np.where((is_kept | is_kept.T) & (cosines > 0), cosines, 0)
    assert np.allclose(matrix(cosine(rows, 3)), wanted)
    assert not matrix(cosine(rows, 3))[7].any()


@pytest.mark.parametrize("seed", range(3))
def test_the_tree_is_that_of_average_linkage(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = np.triu(generator.random((40, 40)) * (generator.random((40, 40)) < 0.3), 1)
    first, second = values.nonzero()
    tree = average_linkage(Likeness(40, first, second, values[first, second]))
    distances = 1 - (values + values.T)
    np.fill_diagonal(distances, 0)
    textbook = linkage(squareform(distances), "average")
    heights = 1 - textbook[:, 2]
    assert np.allclose(np.sort(heights[heights > 1e-12])[::-1], tree.heights)
    for n_groups in (30, 15, 6):
        assert adjusted_rand_score(fcluster(textbook, n_groups, "maxclust"), tree.into(n_groups)) == 1
    height = float(tree.heights[10:12].mean())
    assert adjusted_rand_score(fcluster(textbook, 1 - height, "distance"), tree.above(height)) == 1


@pytest.mark.parametrize("n", [60, 600])
def test_one_in_a_hundred_of_the_nulls_joins_is_above_its_height(n: int) -> None:
    """One in a hundred of 59 joins is less than one: the largest of a single draw every other draw exceeds."""
    generator = np.random.default_rng(0)
    draws = [Likeness(n, np.arange(0, n, 2), np.arange(1, n, 2), generator.random(n // 2)) for _ in range(150)]
    given = iter(draws)
    height = null_height(lambda: next(given), n)
    share = np.mean([(average_linkage(draw).heights > height).sum() / (n - 1) for draw in draws[50:]])
    assert share == pytest.approx(0.01, rel=0.4)


def test_nothing_in_common_is_joined_nowhere() -> None:
    none = np.zeros(0, np.int64)
    assert null_height(lambda: Likeness(10, none, none, np.zeros(0)), 10) == 0
    tree = average_linkage(Likeness(10, none, none, np.zeros(0)))
    assert tree.above(0).tolist() == list(range(10)) and tree.into(3).tolist() == list(range(10))
    assert average_linkage(Likeness(0, none, none, np.zeros(0))).into(1).tolist() == []
