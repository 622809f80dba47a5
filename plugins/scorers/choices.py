"""Choices: a judge says Yes or No to one text at a time, and how surely is the score (autointerp by small judges).

The score of a text x under an explanation z is its calibrated log-odds

    s(x) = [log p(Yes | z, x) − log p(No | z, x)] − [log p(Yes | z₀, x) − log p(No | z₀, x)],

where z₀ is an explanation that says nothing: what a judge thinks of a text whatever is asked goes out (contextual
calibration after Zhao et al. 2021, arXiv 2102.09690, which divides probabilities where this subtracts log-odds). What
the scores are worth is told by `detection`; its cut is at 0, where the explanation makes the text no likelier.

    answered: the share of texts for which a judge gave all answers. The others are left out of all metrics, which are
        undefined where fewer than five of a class are left.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import harness
from plugins.scorers.detection import CHANCE, METRIC, MIN_WINDOWS, check_windows, rows_at_cut
from plugins.scorers.explanations import explanation

CHOICES = ("Yes", "No")
NOTHING = "various unrelated texts"

Case = tuple[harness.LatentWindow, str]
"""A window, active where Yes is right, and the text that is shown of it."""


class ChoiceScorer(ABC):
    """Asks a judge about the texts of test windows. A scorer says which texts, and what it asks."""

    metric = METRIC
    chance = CHANCE
    system: str
    question: str

    def __init__(self, config: object) -> None:
        """Has no parameters."""
        self.config = config

    @abstractmethod
    def cases(self, latent: harness.Latent) -> list[Case]:
        """What is shown; raises Undefined where too little can be."""

    def plan(self, latent: harness.Latent) -> list[harness.Choose]:
        """All texts with the explanation, with none, and with that of the other latent if there is one."""
        check_windows(latent)
        explanations = [explanation(latent), NOTHING]
        if latent.random_explanation is not None:
            explanations.append(latent.random_explanation)
        cases = self.cases(latent)
        return [self._request(about, text) for about in explanations for _, text in cases]

    def _request(self, about: str, text: str) -> harness.Choose:
        # The last blank line stands before the text, which is all that the requests of an explanation differ in.
        shown = " ".join(text.split())
        return harness.Choose(self.system, f"Pattern: {about}\n\nText: {shown}\n{self.question}", CHOICES)

    def reduce(
        self, latent: harness.Latent, requests: list[harness.Choose], responses: list[Any]
    ) -> list[harness.TableRow]:
        """The metrics of `detection`, and what share was answered."""
        windows, texts = zip(*self.cases(latent), strict=True)
        by_case = [responses[place :: len(windows)] for place in range(len(windows))]
        failures = [next((a for a in own if isinstance(a, harness.Failure)), None) for own in by_case]
        kept = [place for place, failure in enumerate(failures) if failure is None]
        unanswered = [
            harness.Verdict(window, window.is_active, None, shown=text, reason=failure.reason)
            for window, text, failure in zip(windows, texts, failures, strict=True)
            if failure is not None
        ]
        answered = harness.TableRow("answered", len(kept) / len(windows), len(windows), True)
        shown = dataclasses.replace(latent, test=tuple(windows[place] for place in kept))
        for is_active in (True, False):
            n = sum(window.is_active is is_active for window in shown.test)
            if n < MIN_WINDOWS:
                reason = f"the judge answered for {n} of the texts to {'accept' if is_active else 'refuse'}"
                reason = f"{reason}, fewer than {MIN_WINDOWS}"
                return [harness.TableRow(METRIC, None, n, True, reason, verdicts=unanswered), answered]
        own, *other = _calibrated([by_case[place] for place in kept])
        main, *rest = rows_at_cut(shown, 0.0, own, other[0] if other else None, [texts[place] for place in kept])
        return [dataclasses.replace(main, verdicts=[*main.verdicts, *unanswered]), *rest, answered]


def _calibrated(answers: Sequence[Sequence[tuple[float, float]]]) -> list[list[float]]:
    """The scores of all texts by the explanation, and by that of the other latent if it was asked about."""
    log_odds = [[yes - no for yes, no in own] for own in answers]
    return [[own[which] - own[1] for own in log_odds] for which in (0, 2) if which < len(log_odds[0])]
