"""Detection: does a judge recognise active windows by the explanation, several at a time?

Detection as published (Paulo et al. 2024, arXiv 2410.13928, 3.3.1): see `generated` for what is asked and what counts.
For judges that can write JSON; small ones can be asked by `choice_detection`, whose scores can be ranked.
"""

from __future__ import annotations

import harness
from harness.plugins.scorers import WrittenDetectionConfig
from harness.plugins.scorers.calibrated import Case
from harness.plugins.scorers.generated import GeneratedScorer


class GeneratedDetection(GeneratedScorer):
    """Asks a judge to write about test windows, shown as they are."""

    system = "You decide which of some texts have a pattern. Answer in JSON."
    question = "the text has the pattern"

    def __init__(self, config: WrittenDetectionConfig) -> None:
        super().__init__(config.max_tokens, config.negatives)

    def cases(self, latent: harness.Latent) -> list[Case]:
        """Active and silent test windows."""
        return [(window, window.text) for window in latent.test]
