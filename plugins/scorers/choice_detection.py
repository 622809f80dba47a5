"""Choice detection: does a judge recognise active windows by the explanation?

Detection (Paulo et al. 2024, arXiv 2410.13928, 3.3.1) with one window to a prompt and the judge's log-odds for its
answer, so that models too small to write a list can judge, and nothing has to be parsed; see `choices`.
"""

from __future__ import annotations

import harness
from plugins.scorers.choices import Case, ChoiceScorer


class ChoiceDetection(ChoiceScorer):
    """Shows test windows as they are."""

    system = "You decide whether a text has a pattern. Answer Yes or No."
    question = "Does this text have the pattern? Answer Yes or No."

    def cases(self, latent: harness.Latent) -> list[Case]:
        """Active test windows and silent ones."""
        return [(window, window.text) for window in latent.test]
