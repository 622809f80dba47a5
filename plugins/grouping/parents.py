"""Parents: poles without which another hardly fires.

The parent of a child is the pole, among those that fire on more rows, with the largest containment less base rate,
n_cp / n_c − n_p / n: the share of the child's n_c rows on which the parent fires too, less its share of all n rows. It
counts as found where that is more than chance has: firing whose documents have changed places (`Firing.exchanged`). Its
p-value is the share of such scores times √n_c, over `N_DRAWS` draws of all poles, that are as large; Benjamini &
Hochberg (1995) keep the share of false ones among those found at `FDR`. So many draws as 1 / FDR are just enough for a
single one to be found.

No threshold of containment enters: where the child's latent absorbs its parent's (Chanin et al. 2024, arXiv 2409.14507)
that is off on many of the child's rows. Poles that fire together for any other reason are found as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.plugins.grouping.firing import Firing
from harness.plugins.grouping.likeness import together

FDR = 0.05
N_DRAWS = 20


@dataclass(frozen=True)
class Parents:
    """The likeliest parent of each pole."""

    parent: Int[np.ndarray, " p"]
    """A pole, or -1 where none that fires on more rows fires together with it more than by its base rate."""
    is_found: Bool[np.ndarray, " p"]


def find_parents(firing: Firing, generator: np.random.Generator) -> Parents:
    """The parents of all poles."""
    scores, parent = _best(firing)
    null = np.sort(np.concatenate([_best(firing.exchanged(generator))[0] for _ in range(N_DRAWS)]))
    n_as_large = len(null) - np.searchsorted(null, scores, side="left")
    p_values = np.where(parent >= 0, (1 + n_as_large) / (1 + len(null)), 1.0)
    return Parents(parent, discoveries(p_values, FDR))


def _best(firing: Firing) -> tuple[Float[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """The largest score of each child, times √n_c, and whose it is; 0 and -1 where none is above 0."""
    counts, n = firing.counts.astype(np.float64), firing.n_rows
    best, parent = np.zeros(len(counts)), np.full(len(counts), -1)
    for i, j, both in together(firing):
        scores = (both / counts[j] - counts[i] / n) * np.sqrt(counts[j])
        is_candidate = (counts[i] > counts[j]) & (scores > 0)
        i, j, scores = i[is_candidate], j[is_candidate], scores[is_candidate]
        order = np.lexsort((-i, scores, j))
        last = order[np.flatnonzero(np.r_[j[order][1:] != j[order][:-1], True])] if len(order) else order
        best[j[last]], parent[j[last]] = scores[last], i[last]
    return best, parent


def discoveries(p_values: Float[np.ndarray, " p"], rate: float) -> Bool[np.ndarray, " p"]:
    """The step-up rule of Benjamini & Hochberg: all up to the last p-value that is at most its rank times rate / p."""
    ranked = np.sort(p_values)
    is_below = ranked <= rate * np.arange(1, len(ranked) + 1) / max(len(ranked), 1)
    limit = ranked[is_below][-1] if is_below.any() else -1.0
    return np.asarray(p_values <= limit)
