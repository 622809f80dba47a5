"""Calibrated scores: how much likelier an explanation makes it that a text has a latent's pattern.

With f(z, x) what a judge's answer on a text x is worth under an explanation z, the score of the text is

    s(x) = f(z, x) − f(z₀, x),

where z₀ is an explanation that says nothing: what a judge thinks of a text whatever is asked goes out. What the scores
are worth is told by `detection`; its cut is at 0, where the explanation makes no difference.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import harness
from harness.plugins.scorers.asking import NOTHING, too_few, verdict
from harness.plugins.scorers.auroc import auroc
from harness.plugins.scorers.detection import CHANCE, METRIC, chosen_windows, rows_at_cut
from harness.plugins.scorers.explanations import explanations

Case = tuple[harness.LatentWindow, str]
"""A window, active where the explanation should fit, and the text that is shown of it."""


class CalibratedScorer(ABC):
    """A scorer that asks a judge about the texts of test windows. Subclasses choose the texts and the request.

    Args:
        negatives: which silent windows there are; see `DetectionConfig`.
    """

    metric = METRIC
    chance = CHANCE

    def __init__(self, negatives: str = "random") -> None:
        self._negatives = negatives

    @abstractmethod
    def cases(self, latent: harness.Latent) -> list[Case]:
        """The windows with the texts to show; raises Undefined if there are too few."""

    @abstractmethod
    def request(self, about: str, text: str) -> Any:
        """The request about a text under an explanation."""

    @abstractmethod
    def worth(self, response: Any) -> float | None:
        """The number f(z, x) that a response is worth; None if it is not known."""

    def plan(self, latent: harness.Latent) -> list[Any]:
        """Requests about all texts with the explanation, with none, and with that of the other latent if it has one."""
        latent = chosen_windows(latent, self._negatives)
        own, *random = explanations(latent)
        cases = self.cases(latent)
        return [self.request(about, text) for about in (own, NOTHING, *random) for _, text in cases]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[Any], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The metrics of `detection`, and those of `asking`."""
        cases = self.cases(chosen_windows(latent, self._negatives))
        windows = [window for window, _ in cases]
        worth = [None if isinstance(own, harness.Failure) else self.worth(own) for own in responses]
        scores = [_calibrated(worth[place :: len(windows)]) for place in range(len(windows))]
        kept = [(window, own) for window, own in zip(windows, scores, strict=True) if own is not None]
        shown = dataclasses.replace(latent, test=tuple(window for window, _ in kept))
        by_explanation = list(zip(*(own for _, own in kept), strict=True))
        if reason := too_few([window.is_active for window in shown.test], "texts"):
            main, *rest = [harness.TableRow(METRIC, None, len(kept), True, reason)]
        else:
            own, *other = by_explanation
            main, *rest = rows_at_cut(shown, 0.0, own, other[0] if other else None)
        n = len(windows)
        verdicts = [
            verdict(window, text, None, reason=_why_not(responses[place::n]))
            if score is None
            else verdict(window, text, score[0] > 0, score[0])
            for place, ((window, text), score) in enumerate(zip(cases, scores, strict=True))
        ]
        return [
            dataclasses.replace(main, verdicts=verdicts),
            *rest,
            harness.TableRow(f"{METRIC}_failures_wrong", _at_worst(windows, scores), n, True),
            harness.TableRow("answered", len(kept) / n, n, True),
        ]


def _calibrated(worth: Sequence[float | None]) -> list[float] | None:
    """The scores of a text by the explanation, and by that of the other latent if it was asked about."""
    known = [own for own in worth if own is not None]
    if len(known) < len(worth):
        return None
    own, nothing, *other = known
    return [found - nothing for found in (own, *other)]


def _why_not(responses: Sequence[Any]) -> str:
    failures = (response.reason for response in responses if isinstance(response, harness.Failure))
    return next(failures, "the answer is worth nothing")


def _at_worst(windows: Sequence[harness.LatentWindow], scores: Sequence[list[float] | None]) -> float:
    """The AUROC with active windows that have no score below all others, and silent ones above."""
    by_class: dict[bool, list[float]] = {True: [], False: []}
    for window, score in zip(windows, scores, strict=True):
        worst = -math.inf if window.is_active else math.inf
        by_class[window.is_active].append(worst if score is None else score[0])
    return auroc(by_class[True], by_class[False])
