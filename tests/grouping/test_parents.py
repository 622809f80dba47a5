"""Parents, against all pairs by hand, and the graph of co-firing against one whose edges say nothing."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import scipy.stats
import torch

import harness
from harness.plugins.grouping.firing import Firing, FiringReader
from harness.plugins.grouping.likeness import cofiring
from harness.plugins.grouping.modularity import N_NEIGHBOURS, modularity_over_rewired
from harness.plugins.grouping.parents import _best, discoveries, find_parents
from harness.plugins.grouping.significance import cofiring_groups
from tests.grouping.test_firing import read, sparse


def firing_of(fires: np.ndarray, *places: np.ndarray) -> Firing:
    reader = FiringReader(fires.shape[1], len(fires))
    reader.add(harness.Codes(torch.from_numpy(fires.astype(np.float32))), *places)
    return reader.finish()


def test_the_likeliest_parent_has_the_largest_containment_less_base_rate() -> None:
    firing = read(sparse(n=600, m=25), 25)
    matrix, n = firing.matrix.toarray(), firing.n_rows
    scores, parents = _best(firing)
    for child in range(matrix.shape[1]):
        n_child = matrix[:, child].sum()
        of = {
            parent: (matrix[:, parent] @ matrix[:, child]) / n_child - matrix[:, parent].sum() / n
            for parent in range(matrix.shape[1])
            if matrix[:, parent].sum() > n_child
        }
        best = max(of, key=of.__getitem__, default=-1)
        if of and of[best] > 0:
            assert of[parents[child]] == pytest.approx(of[best])
            assert scores[child] == pytest.approx(of[best] * n_child**0.5)
        else:
            assert parents[child] == -1 and scores[child] == 0


def test_the_false_discovery_rate_is_that_of_benjamini_and_hochberg() -> None:
    p_values = np.random.default_rng(0).random(200) ** 3
    adjusted = scipy.stats.false_discovery_control(p_values, method="bh")
    assert np.array_equal(discoveries(p_values, 0.05), adjusted <= 0.05) and 5 < (adjusted <= 0.05).sum() < 150
    assert not discoveries(np.full(20, 0.5), 0.05).any() and not len(discoveries(np.zeros(0), 0.05))


def test_a_single_child_is_found_though_its_parent_is_off_in_a_quarter_of_its_rows() -> None:
    """A rule that wants a containment of .8, as dictionaries without absorption have it, would miss it."""
    generator = np.random.default_rng(1)
    fires = generator.random((4000, 60)) < 0.05
    fires[:, 0] = generator.random(4000) < 0.2
    fires[:, 1] = np.where(fires[:, 0], generator.random(4000) < 0.15, generator.random(4000) < 0.0125)
    assert (fires[:, 1] & fires[:, 0]).sum() / fires[:, 1].sum() < 0.8
    found = find_parents(firing_of(fires), generator)
    assert found.is_found.tolist() == [i == 1 for i in range(60)] and found.parent[1] == 0


def test_bursts_that_meet_by_chance_are_no_parents() -> None:
    """A test by the hypergeometric distribution, which takes rows for independent, would find dozens."""
    generator = np.random.default_rng(2)
    begins = np.repeat(generator.random((100, 60)) < generator.uniform(0.05, 0.3, 60), 40, axis=0)
    fires = begins & (generator.random(begins.shape) < 0.7)
    firing = firing_of(fires)
    found = find_parents(firing, generator)
    assert found.is_found.sum() == 0
    matrix = firing.matrix.toarray()
    counts, both = matrix.sum(axis=0), matrix.T @ matrix
    p_values = np.array(
        [
            scipy.stats.hypergeom.sf(both[parent, child] - 1, len(fires), int(counts[parent]), int(counts[child]))
            for child, parent in enumerate(found.parent)
            if parent >= 0
        ]
    )
    assert (p_values * 60 < 0.01).sum() > 20


def test_latents_that_prefer_documents_are_neither_parents_nor_clusters() -> None:
    """Against rows moved along the corpus they would be: they begin and end with documents, and so together."""
    n_found = n_clustered = 0
    for seed in range(3):
        generator = np.random.default_rng(seed)
        lengths = generator.integers(20, 200, size=60)
        is_about = generator.random((60, 80)) < generator.uniform(0.05, 0.3, 80)
        fires = np.repeat(is_about, lengths, axis=0) & (generator.random((lengths.sum(), 80)) < 0.5)
        firing = firing_of(fires, np.repeat(np.arange(60), lengths)).alive()
        n_found += find_parents(firing, generator).is_found.sum()
        n_clustered += (cofiring_groups(firing, generator)[0] >= 0).sum()
    assert n_found <= 1 and n_clustered <= 4


def test_only_what_is_above_a_rewired_graph_counts() -> None:
    generator = np.random.default_rng(3)
    topics = np.repeat(generator.random((3000, 10)) < 0.05, 12, axis=1)
    planted = firing_of((topics & (generator.random(topics.shape) < 0.5)) | (generator.random(topics.shape) < 0.01))
    by_chance = firing_of(generator.random((3000, 120)) < 0.03)
    assert modularity_over_rewired(planted, 0) > 0.4
    assert abs(modularity_over_rewired(by_chance, 0)) < 0.05
    nearest = cofiring(by_chance, N_NEIGHBOURS)
    graph = networkx.Graph(zip(nearest.first.tolist(), nearest.second.tolist(), strict=True))
    raw = networkx.community.modularity(graph, networkx.community.louvain_communities(graph, seed=0))
    assert raw > 0.2  # by itself it would look like structure
    with pytest.raises(harness.Undefined, match="can't be rewired"):
        modularity_over_rewired(firing_of(np.eye(3, dtype=bool)), 0)
