"""Fuzzing: does a judge tell by the explanation, several texts at a time, whether the right words are marked?

Fuzzing (Paulo et al. 2024, arXiv 2410.13928, 3.3.2): see `generated` for what is asked and what counts. What is marked
is as in `choice_fuzzing`: in active windows only, the active tokens or as many others at the places of another window's
active ones, so that neither places nor texts alone tell right from wrong. Each window is shown with right marks and
with wrong ones, as a rule in different prompts.
"""

from __future__ import annotations

import harness
from harness.plugins.scorers import WrittenConfig
from harness.plugins.scorers.calibrated import Case
from harness.plugins.scorers.choice_fuzzing import matched_marks
from harness.plugins.scorers.generated import GeneratedScorer


class GeneratedFuzzing(GeneratedScorer):
    """Asks a judge to write about active test windows with marks, right and wrong ones."""

    system = "You decide in which of some texts the words marked with << >> have a pattern. Answer in JSON."
    question = "the marked words have the pattern"

    def __init__(self, config: WrittenConfig) -> None:
        super().__init__(config.max_tokens)

    def cases(self, latent: harness.Latent) -> list[Case]:
        """Active test windows with right marks, and with wrong ones."""
        return matched_marks(latent)
