"""Choices: a judge says Yes or No to one text at a time, and how surely is the score (autointerp by small judges).

What an answer is worth is its log-odds, f(z, x) = log p(Yes | z, x) − log p(No | z, x), calibrated by `calibrated`
(contextual calibration after Zhao et al. 2021, arXiv 2102.09690, which divides probabilities where this subtracts
log-odds).
"""

from __future__ import annotations

import harness
from harness.plugins.scorers.asking import on_one_line
from harness.plugins.scorers.calibrated import CalibratedScorer

CHOICES = ("Yes", "No")


class ChoiceScorer(CalibratedScorer):
    """A scorer that asks for Yes or No. Subclasses choose the question."""

    system: str
    question: str

    def request(self, about: str, text: str) -> harness.Choose:
        """The request. Requests of one explanation differ only in the text, which follows the last blank line."""
        return harness.Choose(self.system, f"Pattern: {about}\n\nText: {on_one_line(text)}\n{self.question}", CHOICES)

    def worth(self, response: tuple[float, float]) -> float:
        """The log-odds of the answer Yes."""
        yes, no = response
        return yes - no
