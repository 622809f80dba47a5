"""Token look-up: the floor that every explanation of a latent must beat.

A window's score is the largest activation that a table of n-grams predicts for its tokens (see `ngrams`); what it is
worth is told by `detection`. A latent that a table predicts well needs no explanation but a list of tokens, so what is
interesting of other scorers is what they find beyond this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.detection import CHANCE, METRIC, chosen_windows, detection_rows
from harness.plugins.scorers.ngrams import NGrams


class TokenLookup:
    """Scores windows by a table of n-grams, without asking a judge."""

    metric = METRIC
    chance = CHANCE

    def __init__(self, config: DetectionConfig) -> None:
        self._config = config

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        """Return no requests: the windows suffice."""
        return []

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Embed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The metrics of `detection`; the random explanation is the table of the other latent."""
        latent = chosen_windows(latent, self._config.negatives)
        table = NGrams(latent.explain)
        of_explain, of_test = ([table.score(window) for window in half] for half in (latent.explain, latent.test))
        by_other = None
        if latent.other is not None:
            other_table = NGrams(latent.other.explain)
            by_other = [other_table.score(window) for window in latent.test]
        return detection_rows(latent, of_explain, of_test, by_other)
