"""Choice detection: does a judge recognise active windows by the explanation?

Detection (Paulo et al. 2024, arXiv 2410.13928, 3.3.1) with one window to a prompt and the judge's log-odds for its
answer, so that models too small to write a list can judge, and nothing has to be parsed. The score of a text x under an
explanation z is its calibrated log-odds (see `choices`)

    s(x) = [log p(Yes | z, x) − log p(No | z, x)] − [log p(Yes | z₀, x) − log p(No | z₀, x)],

where z₀ says nothing.
"""

from __future__ import annotations

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.calibrated import Case
from harness.plugins.scorers.choices import ChoiceScorer


class ChoiceDetection(ChoiceScorer):
    """Asks a judge about test windows, shown as they are."""

    system = "You decide whether a text has a pattern. Answer Yes or No."
    question = "Does this text have the pattern? Answer Yes or No."

    def __init__(self, config: DetectionConfig) -> None:
        super().__init__(config.negatives)

    def cases(self, latent: harness.Latent) -> list[Case]:
        """Active and silent test windows."""
        return [(window, window.text) for window in latent.test]
