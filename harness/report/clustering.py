"""An order of things in which those that are alike stand side by side."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float


def clustered(distances: Float[np.ndarray[Any, Any], "m m"]) -> list[int]:
    """The leaves of a hierarchical clustering by average linkage (UPGMA, Sokal & Michener 1958), from left to right.

    The two clusters whose members are least far from each other, on average, become one, until one is left. Of the
    four ways to put two orders side by side, the one whose meeting ends are nearest is taken. Ties are settled by the
    order of the things. An unknown distance (NaN) counts as the largest.
    """
    known = distances[np.isfinite(distances)]
    distances = np.where(np.isfinite(distances), distances, known.max() if len(known) else 0.0)
    between = distances.copy()
    np.fill_diagonal(between, np.inf)
    orders = {i: [i] for i in range(len(distances))}
    while len(orders) > 1:
        i, j = sorted(map(int, np.unravel_index(np.argmin(between), between.shape)))
        n_i, n_j = len(orders[i]), len(orders[j])
        merged = (n_i * between[i] + n_j * between[j]) / (n_i + n_j)
        between[i], between[:, i] = merged, merged
        between[j], between[:, j] = np.inf, np.inf
        between[i, i] = np.inf
        ways = itertools.product((orders[i], orders[i][::-1]), (orders[j], orders[j][::-1]))
        left, right = min(ways, key=lambda way: distances[way[0][-1], way[1][0]])
        orders[i] = left + right
        del orders[j]
    return next(iter(orders.values()), [])
