"""The assignment problem: match two sets one to one, so that the sum of similarities is largest."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

import harness

MAX_SIDE = 16_384
"""Largest number of items on a side: all similarities are in memory, and the time grows with its cube."""


def check_sides(n: int, m: int) -> None:
    """Refuse an assignment that would take too long, before the similarities are computed.

    Raises:
        harness.Undefined: there are more than `MAX_SIDE` of either.
    """
    if max(n, m) > MAX_SIDE:
        raise harness.Undefined(f"{max(n, m)} latents; an optimal assignment takes up to {MAX_SIDE}")


def optimal_assignment(
    similarities: Float[np.ndarray, "n m"],
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """The min(n, m) pairs, no row and no column twice, whose similarities have the largest sum (Kuhn 1955).

    Raises:
        harness.Undefined: there are more than `MAX_SIDE` of either.
    """
    check_sides(*similarities.shape)
    try:
        # It comes with scikit-learn. Here, so that a machine without it can do all else.
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise harness.ConfigError(f"matching latents: {error}. Run: pip install scipy") from error
    rows, columns = linear_sum_assignment(similarities, maximize=True)
    return rows, columns
