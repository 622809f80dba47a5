"""Surprisal: does an explanation make active windows likelier than silent ones?

The surprisal scorer of Paulo et al. 2024 (arXiv 2410.13928, 3.3.3): what a language model reads before a text x is an
explanation z, or one that says nothing, z₀. With T the number of the text's tokens its score is

    s(x) = [log p(x | z) − log p(x | z₀)] / T     in nats per token,

see `calibrated`. Per token, since windows differ in length and all tokens may gain from a context in the language of
the corpus. The published score has nine examples of descriptions before z; here is none, so that base models and tuned
ones read the same. The cut of balanced accuracy at 0 is hard on it: a text of many words may make all texts likelier.
"""

from __future__ import annotations

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.asking import on_one_line
from harness.plugins.scorers.calibrated import CalibratedScorer, Case


class Surprisal(CalibratedScorer):
    """Asks a judge for the likelihood of test windows."""

    def __init__(self, config: DetectionConfig) -> None:
        super().__init__(config.negatives)

    def cases(self, latent: harness.Latent) -> list[Case]:
        """Active and silent test windows."""
        return [(window, window.text) for window in latent.test]

    def request(self, about: str, text: str) -> harness.Likelihood:
        """The request: the text continues the context, and the space between them belongs to the text."""
        return harness.Likelihood(f"All of these texts have one pattern: {about}\n\nText:", f" {on_one_line(text)}")

    def worth(self, response: tuple[float, int]) -> float | None:
        """The mean log-probability of the text's tokens, in nats."""
        total, n_tokens = response
        return total / n_tokens if n_tokens else None
