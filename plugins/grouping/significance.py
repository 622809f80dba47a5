"""Groups of poles that are more alike than chance makes them.

Chance is the same tree of a null: of firing whose documents have changed places (`Firing.exchanged`), or of random
directions with the mean and covariance of the real ones. Joins above the likeness that one in a hundred of the null's
n − 1 joins exceeds make groups; those of fewer than `MIN_MEMBERS` poles are none. Where n is small, the null is drawn
several times, until there are `N_JOINS` joins: of a few dozen one in a hundred would be less than one. Rows drawn anew
for each latent would be too easy a null: latents that prefer documents begin and end with them, and so together.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.grouping.firing import Firing
from harness.plugins.grouping.likeness import Likeness, cofiring
from harness.plugins.grouping.linkage import Tree, average_linkage

NULL_SHARE = 0.01
N_JOINS = 500
MIN_MEMBERS = 3

Labels = Int[np.ndarray, " p"]
"""The number of each pole's group, from 0 on; -1 for poles in none."""


def null_height(draw: Callable[[], Likeness], n_poles: int) -> float:
    """The likeness that one in a hundred of the null's joins exceeds, at most; those that did not come about have 0.

    Args:
        draw: gives the graph of another draw of the null.
        n_poles: in it.
    """
    n_joins = max(n_poles - 1, 1)
    n_draws = math.ceil(N_JOINS / n_joins)
    heights = -np.sort(-np.concatenate([average_linkage(draw()).heights for _ in range(n_draws)]))
    rank = int(NULL_SHARE * n_draws * n_joins)
    return float(heights[rank]) if rank < len(heights) else 0.0


def large_groups(labels: Int[np.ndarray, " p"]) -> Labels:
    """The groups of `MIN_MEMBERS` poles or more, numbered anew in their order."""
    sizes = np.bincount(labels, minlength=1)
    is_large = sizes >= MIN_MEMBERS
    return np.where(is_large[labels], (is_large.cumsum() - 1)[labels], -1)


def cofiring_groups(firing: Firing, generator: np.random.Generator) -> tuple[Labels, Tree, float]:
    """The groups of poles that fire together more than by chance, their tree, and the height it was cut at."""
    height = null_height(lambda: cofiring(firing.exchanged(generator)), len(firing.counts))
    tree = average_linkage(cofiring(firing))
    return large_groups(tree.above(height)), tree, height


def random_directions(
    directions: Float[Tensor, "p d"], draw: Callable[[int, int], Float[Tensor, "p d"]]
) -> Float[Tensor, "p d"]:
    """Gaussian directions, as many as are given, with the mean and the covariance of these, all taken to norm 1.

    Args:
        directions: the real ones.
        draw: gives Gaussian numbers of a shape.
    """
    norms = directions.double().norm(dim=1, keepdim=True)
    has_direction = norms[:, 0] > 0
    rows: Float[Tensor, "p d"] = directions.double()[has_direction] / norms[has_direction]
    if not len(rows):
        return rows
    mean: Float[Tensor, " d"] = rows.mean(dim=0)
    values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    numbers = draw(len(rows), len(values)).to(rows)
    scattered: Float[Tensor, "p d"] = (numbers * values.clamp(min=0).sqrt()) @ vectors.T
    return mean + scattered
