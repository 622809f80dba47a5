"""Modularity of the graph of likenesses, over that of a graph of the same degrees whose edges say nothing.

Each pole is joined to its `N_NEIGHBOURS` most alike. Modularity is the share of edges inside communities less that of
a random graph of the same degrees (Newman & Girvan 2004), the communities being those of Louvain's method (Blondel et
al. 2008). Sparse graphs reach large ones by chance: .9 is no sign of structure. So the same is done after random swaps
of the ends of edges, which keep every degree, and only the difference means anything.
"""

from __future__ import annotations

import networkx

import harness
from harness.plugins.grouping.firing import Firing
from harness.plugins.grouping.likeness import cofiring

N_NEIGHBOURS = 8
_SWAPS_PER_EDGE = 5
_TRIES_PER_SWAP = 50


def modularity_over_rewired(firing: Firing, seed: int) -> float:
    """The difference, between -1 and 1.

    Raises:
        Undefined: there are too few edges, or too many between too few poles, to be swapped.
    """
    nearest = cofiring(firing, N_NEIGHBOURS)
    graph = networkx.Graph(zip(nearest.first.tolist(), nearest.second.tolist(), strict=True))
    rewired, n_swaps = graph.copy(), _SWAPS_PER_EDGE * graph.number_of_edges()
    try:
        networkx.double_edge_swap(rewired, n_swaps, _TRIES_PER_SWAP * max(n_swaps, 1), seed=seed)
    except networkx.NetworkXException as error:
        raise harness.Undefined(f"the graph of co-firing can't be rewired: {error}") from error
    return _modularity(graph, seed) - _modularity(rewired, seed)


def _modularity(graph: networkx.Graph, seed: int) -> float:
    found = networkx.community.louvain_communities(graph, seed=seed)
    return float(networkx.community.modularity(graph, found))
