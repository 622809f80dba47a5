"""Documents for monitors: exchangeable ones, and such in which some latents fire more often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

import harness

N_LATENTS = 80
RATES = np.geomspace(0.002, 0.05, N_LATENTS)


def drawn_documents(
    draw: np.random.Generator, n: int, often: Sequence[int] = (), factor: float = 1.0, shift: float = 0.0
) -> harness.WatchedDocuments:
    """Documents whose latents fire at rates of the document's own; `often` fire `factor` times as often.

    Scores are skewed, and higher by `shift` standard deviations.
    """
    n_rows = draw.integers(30, 100, n)
    rates = RATES.copy()
    rates[list(often)] *= factor
    # Documents are about something: what fires in one row of them is likelier in the others.
    own = np.minimum(rates * draw.gamma(5, 1 / 5, (n, N_LATENTS)), 0.9)
    fired = np.zeros((n, 2 * N_LATENTS), np.int64)
    fired[:, ::2] = draw.binomial(n_rows[:, None], own)
    scores = draw.gamma(4, 0.5, n) + shift
    ids = tuple(f"d{number}" for number in range(n))
    return harness.WatchedDocuments(ids, n_rows, scores, sparse.csr_array(fired))
