"""The names: which poles fire more or less often in some documents than in the reference, with every one tested.

F is [documents, poles], how many of a document's N rows a pole fires in; reference and batch together have the rate
r = Σ F / Σ N and the residuals F − r N. Of a pole they are cut off at three times their root mean square, so that no
document decides alone, and centred; s is the standard deviation of what that leaves, E. The statistic of a pole is

    T = |Σ over the batch of E| / s

and its adjusted p-value the share of draws of as many documents out of all, the batch itself among the draws, in which
the largest T of any pole is at least as large (single-step max-T; Westfall & Young 1993, Resampling-Based Multiple
Testing, ch. 2). Where all documents are exchangeable, the probability that any pole is named is at most the level, with
no assumption about distributions: normal tails name latents that fire rarely in almost every batch.

Poles that fire in fewer than 10 documents in all are not tested: one document would decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.special import stdtrit

from harness.monitoring.documents import WatchedDocuments

LEVEL = 0.025
"""The adjusted p-value at which a pole is named: in batches without change somebody is in 2.5 %."""
N_DRAWS = 199
MIN_DOCUMENTS = 10
_CUT = 3.0
_ROUNDING = 1e-9
"""Statistics of one batch that is drawn in another order differ by less than this share."""
_MAX_ENTRIES = 2**22
"""The most numbers of poles that are held at once, a document's or a draw's each."""


@dataclass(frozen=True)
class Change:
    """A pole that is named, with how much more often it fires in the batch than in the reference.

    Rates are firings per row. The interval holds the logarithm of their ratio with 95 % (delta method, with the
    variance of documents; Student's t by Satterthwaite); without firings on one side there is no ratio.
    """

    pole: int
    p_adjusted: float
    rate: float
    reference_rate: float
    log_ratio: float | None
    log_ratio_low: float | None
    log_ratio_high: float | None


def changed_poles(reference: WatchedDocuments, batch: WatchedDocuments, seed: int) -> list[Change]:
    """The poles that are named at the level, the most surprising first."""
    poles, p_values = adjusted_p_values(reference, batch, seed)
    named = np.flatnonzero(p_values <= LEVEL)
    changes = [_change(reference, batch, int(poles[place]), float(p_values[place])) for place in named]
    return sorted(changes, key=lambda change: (change.p_adjusted, -abs(change.log_ratio or math.inf), change.pole))


def adjusted_p_values(
    reference: WatchedDocuments, batch: WatchedDocuments, seed: int, n_draws: int = N_DRAWS
) -> tuple[Int[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The poles that are tested, and their adjusted p-values."""
    both = reference.followed_by(batch)
    fired = sparse.csc_array(both.fired, dtype=np.float64)
    poles = np.flatnonzero(np.diff(fired.indptr) >= MIN_DOCUMENTS)
    n_rows = both.n_rows.astype(np.float64)
    draws = _draws(len(reference), len(batch), seed, n_draws)
    largest, own = np.zeros(n_draws + 1), np.zeros(len(poles))
    step = max(1, _MAX_ENTRIES // max(draws.shape))
    for first in range(0, len(poles), step):
        part = slice(first, first + step)
        statistics = _statistics(fired[:, poles[part]].toarray(), n_rows, draws)
        own[part] = statistics[0]
        np.maximum(largest, statistics.max(axis=1, initial=0.0), out=largest)
    # The first is the batch itself.
    below = np.searchsorted(np.sort(largest[1:]), own * (1 - _ROUNDING), side="left")
    return poles, (1 + n_draws - below) / (n_draws + 1)


def _draws(n_reference: int, n_batch: int, seed: int, n_draws: int) -> Float[np.ndarray, "draws d"]:
    """1 for the documents of each draw; the first one is the batch."""
    draw, n = np.random.default_rng(seed), n_reference + n_batch
    chosen = np.zeros((n_draws + 1, n))
    chosen[0, n_reference:] = 1
    for row in chosen[1:]:
        row[draw.choice(n, n_batch, replace=False)] = 1
    return chosen


def _statistics(
    fired: Float[np.ndarray, "d p"], n_rows: Float[np.ndarray, " d"], draws: Float[np.ndarray, "draws d"]
) -> Float[np.ndarray, "draws p"]:
    residuals = fired - n_rows[:, None] * (fired.sum(axis=0) / n_rows.sum())
    reach = _CUT * np.sqrt((residuals**2).mean(axis=0))
    residuals = np.clip(residuals, -reach, reach)
    residuals -= residuals.mean(axis=0)
    deviations = np.sqrt((residuals**2).mean(axis=0))
    varies = deviations > 0
    found = np.zeros((len(draws), fired.shape[1]))
    np.divide(np.abs(draws @ residuals), deviations, out=found, where=varies[None])
    return found


def _change(reference: WatchedDocuments, batch: WatchedDocuments, pole: int, p_adjusted: float) -> Change:
    (rate, variance, freedom), (before, variance_before, freedom_before) = (
        _log_rate(side.fired[:, [pole]].toarray()[:, 0].astype(np.float64), side.n_rows) for side in (batch, reference)
    )
    if not (rate and before):
        return Change(pole, p_adjusted, rate, before, None, None, None)
    ratio, total = math.log(rate / before), variance + variance_before
    uncertain = variance**2 / freedom + variance_before**2 / freedom_before
    reach = math.sqrt(total) * float(stdtrit(total**2 / uncertain, 0.975)) if uncertain else 0.0
    return Change(pole, p_adjusted, rate, before, ratio, ratio - reach, ratio + reach)


def _log_rate(fired: Float[np.ndarray, " d"], n_rows: Int[np.ndarray, " d"]) -> tuple[float, float, int]:
    """(rate, variance of its logarithm, degrees of freedom), by how documents differ."""
    n, total = len(fired), fired.sum()
    rate = float(total / n_rows.sum())
    if not rate:
        return 0.0, math.nan, n - 1
    residuals = fired - rate * n_rows
    return rate, float((residuals @ residuals) * n / (n - 1) / total**2), n - 1
