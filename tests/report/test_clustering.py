"""The order of a heat map: what is alike stands side by side."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import average
from scipy.spatial.distance import squareform

from harness.report.clustering import clustered


def _distances(n: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


@pytest.mark.parametrize("seed", range(5))
def test_every_cluster_of_average_linkage_stands_together(seed: int) -> None:
    n = 12
    distances = _distances(n, seed)
    place = {leaf: i for i, leaf in enumerate(clustered(distances))}
    members = {i: [i] for i in range(n)}
    for step, (i, j, *_) in enumerate(average(squareform(distances, checks=False))):
        members[n + step] = members[int(i)] + members[int(j)]
        places = sorted(place[leaf] for leaf in members[n + step])
        assert places == list(range(places[0], places[0] + len(places)))


def test_equal_things_stand_side_by_side() -> None:
    distances = _distances(6)
    twins = [0, 1, 2, 3, 4, 5, 2]  # the last is the third once more
    order = clustered(distances[np.ix_(twins, twins)])
    assert abs(order.index(2) - order.index(6)) == 1


def test_ends_that_meet_are_near() -> None:
    at = np.array([3.0, 0.0, 1.0, 2.1, 7.0])
    order = clustered(abs(at[:, None] - at[None]))
    assert order in ([1, 2, 3, 0, 4], [4, 0, 3, 2, 1])


def test_what_is_not_known_is_far() -> None:
    distances = np.array([[0, np.nan, 1], [np.nan, 0, 2], [1, 2, 0]])
    assert clustered(distances) in ([0, 2, 1], [1, 2, 0])
    assert clustered(np.full((3, 3), np.nan)) == [0, 1, 2] or len(set(clustered(np.full((3, 3), np.nan)))) == 3
    assert clustered(np.zeros((0, 0))) == [] and clustered(np.zeros((1, 1))) == [0]
