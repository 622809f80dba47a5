"""The watch over documents that are given as sums: it raises the alarm, and names what fires otherwise than before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.errors import ConfigError
from harness.monitoring.documents import WatchedDocuments
from harness.monitoring.martingale import Martingale
from harness.monitoring.naming import Change, changed_poles
from harness.monitoring.settings import MonitorSettings

_MIN_REFERENCE = 20
"""Fewest documents for calibration: with n of them no p-value is below 1 / (n + 1)."""
_MIN_NAMED = 2
"""Fewest documents that are compared: how one differs from others is not known."""


@dataclass(frozen=True)
class Outcome:
    """The standing of a watch after some documents."""

    n_documents: int
    alarm_document: int | None
    log_evidence: float
    false_alarm_bound: float
    changes: list[Change]


class DriftWatch:
    """Compares a stream with a reference that the decomposition was not fitted on.

    Args:
        reference: documents like those that the stream is to have.
        settings: of which `horizon`, `window` and `seed` count.
    """

    def __init__(self, reference: WatchedDocuments, settings: MonitorSettings) -> None:
        if len(reference) < _MIN_REFERENCE:
            raise ConfigError(
                f"monitor: {len(reference)} documents with rows for calibration; give at least {_MIN_REFERENCE}, such "
                "as 200: with n of them no p-value is below 1/(n + 1)."
            )
        self.reference, self._settings = reference, settings
        self.martingale = Martingale(reference.scores, settings.horizon, settings.seed)
        self.recent = reference.take(slice(0, 0))
        """The last documents of the stream, as many as the window holds."""

    def update(self, documents: WatchedDocuments) -> Outcome:
        """Take the next documents of the stream, in order."""
        for score in documents.scores.tolist():
            self.martingale.add(score)
        self.recent = self.recent.followed_by(documents).take(slice(-self._settings.window, None))
        changes = []
        if len(documents) and len(self.recent) >= _MIN_NAMED:
            changes = changed_poles(self.reference, self.recent, self._seed_of_draws())
        return Outcome(
            self.martingale.n_documents,
            self.martingale.alarm_document,
            self.martingale.log_evidence,
            self.martingale.false_alarm_bound,
            changes,
        )

    def resume(self, scores: Float[np.ndarray, " n"], recent: WatchedDocuments) -> None:
        """Stand where a watch of this reference stood after documents with these scores, the last of them given."""
        for score in scores.tolist():
            self.martingale.add(score)
        self.recent = recent

    def _seed_of_draws(self) -> int:
        """A seed that depends on the documents so far by their number alone, so that it is the same after a kill."""
        return int(np.random.SeedSequence([self._settings.seed, self.martingale.n_documents]).generate_state(1)[0])
