"""Generated answers: a judge reads a few texts at a time and answers for each with 1, 0 or null, in JSON.

The published form of detection and fuzzing (Paulo et al. 2024, arXiv 2410.13928, 3.3). Of a text there is a
yes, a no, or no answer, because the request failed, the answer could not be read, or the judge abstained. What has no
answer is left out; it counts neither as 0 nor as wrong. The main metric is balanced accuracy, the mean of the
shares of positives called 1 and of negatives called 0, ½ by chance. Answers are no scores that could be ranked: the
AUROC of 0 and 1 is the same number.

    balanced_accuracy_random_explanation: the same with the explanation of another latent.
    parse_rate: the share of texts whose answer could be read, among those whose request was answered.
    abstain_rate: the share of texts for which the judge said null, among those whose answer could be read.

Texts are shuffled, and cut into prompts of `N_SHOWN`, the last of which may have fewer. Active and silent windows look
alike, and the prompt has no example, whose number of positives would be a hint (as it is in SAEBench). What counts of
an answer is told by `written`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

import harness
from harness.plugins.scorers.asking import NO_OTHER, generator_of, on_one_line, too_few, verdict
from harness.plugins.scorers.calibrated import Case
from harness.plugins.scorers.detection import CHANCE, chosen_windows
from harness.plugins.scorers.explanations import explanations
from harness.plugins.scorers.written import ABSTAINED, NO, UNREADABLE, YES, read_answers, schema_of

N_SHOWN = 5
FAILED = "the request failed"


class GeneratedScorer(ABC):
    """A scorer that asks a judge to write. Subclasses choose the texts and the question.

    Args:
        max_tokens: longest answer; see `WrittenConfig`.
        negatives: choice of silent windows; see `DetectionConfig`.
    """

    metric = "balanced_accuracy"
    chance = CHANCE
    system: str
    question: str
    """The question about each text that the judge is to answer."""

    def __init__(self, max_tokens: int, negatives: str = "random") -> None:
        self._max_tokens = max_tokens
        self._negatives = negatives

    @abstractmethod
    def cases(self, latent: harness.Latent) -> list[Case]:
        """The windows with the texts to show; raises Undefined if there are too few."""

    def plan(self, latent: harness.Latent) -> list[harness.Generate]:
        """Requests about all texts with the explanation, and with that of the other latent if it has one."""
        latent = chosen_windows(latent, self._negatives)
        cases = self.cases(latent)
        return [
            self._request(about, [cases[place][1] for place in prompt])
            for about in explanations(latent)
            for prompt in _prompts(latent, len(cases))
        ]

    def _request(self, about: str, texts: Sequence[str]) -> harness.Generate:
        shown = "\n".join(f"{number + 1}. {on_one_line(text)}" for number, text in enumerate(texts))
        asked = (
            f'Answer in JSON, with a list "answers" of {len(texts)} items, one for each text in their order: 1 if '
            f"{self.question}, 0 if not, null if you can't tell. It may be so for any number of them, or for none."
        )
        return harness.Generate(
            self.system, f"Pattern: {on_one_line(about)}\n\n{shown}\n{asked}", self._max_tokens, schema_of(len(texts))
        )

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Generate], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The balanced accuracy, its control, and the shares of texts that were answered, read and abstained from."""
        latent = chosen_windows(latent, self._negatives)
        cases = self.cases(latent)
        is_active = [window.is_active for window, _ in cases]
        prompts = _prompts(latent, len(is_active))
        own = _outcomes(prompts, responses[: len(prompts)])
        control = harness.TableRow(f"{self.metric}_random_explanation", None, len(own), None, NO_OTHER)
        if latent.random_explanation is not None:
            control = _balanced_accuracy(control.metric, is_active, _outcomes(prompts, responses[len(prompts) :]))
        verdicts = [
            verdict(*case, outcome == YES) if outcome in (YES, NO) else verdict(*case, None, reason=outcome)
            for case, outcome in zip(cases, own, strict=True)
        ]
        return [
            dataclasses.replace(_balanced_accuracy(self.metric, is_active, own), verdicts=verdicts),
            control,
            _balanced_accuracy(f"{self.metric}_failures_wrong", is_active, _at_worst(is_active, own)),
            *_rates(own),
        ]


def _prompts(latent: harness.Latent, n: int) -> list[list[int]]:
    """The places of n texts in each prompt, after shuffling."""
    order = generator_of(latent, "generated").permutation(n).tolist()
    return [order[first : first + N_SHOWN] for first in range(0, n, N_SHOWN)]


def _outcomes(prompts: Sequence[Sequence[int]], responses: Sequence[Any]) -> list[str]:
    """The outcome of each text, in the order of the cases."""
    found: dict[int, str] = {}
    for places, response in zip(prompts, responses, strict=True):
        is_failure = isinstance(response, harness.Failure)
        outcomes = [FAILED] * len(places) if is_failure else read_answers(response, len(places))
        found |= zip(places, outcomes, strict=True)
    return [found[place] for place in range(len(found))]


def _at_worst(is_active: Sequence[bool], outcomes: Sequence[str]) -> list[str]:
    """The outcomes with a wrong answer wherever there is none."""
    pairs = zip(is_active, outcomes, strict=True)
    return [own if own in (YES, NO) else (NO if active else YES) for active, own in pairs]


def _balanced_accuracy(metric: str, is_active: Sequence[bool], outcomes: Sequence[str]) -> harness.TableRow:
    pairs = [(active, own == YES) for active, own in zip(is_active, outcomes, strict=True) if own in (YES, NO)]
    if reason := too_few([active for active, _ in pairs], "texts"):
        return harness.TableRow(metric, None, len(pairs), True, reason)
    rights = [[says is active for active, says in pairs if active is kind] for kind in (True, False)]
    return harness.TableRow(metric, float(np.mean([np.mean(right) for right in rights])), len(pairs), True)


def _rates(outcomes: Sequence[str]) -> list[harness.TableRow]:
    """Shares of the texts that were answered, and whose answer could be read or was an abstention."""
    n = len(outcomes)
    n_answered = n - outcomes.count(FAILED)
    n_read = n_answered - outcomes.count(UNREADABLE)
    return [
        _share("answered", n_answered, n, True),
        _share("parse_rate", n_read, n_answered, True),
        _share("abstain_rate", outcomes.count(ABSTAINED), n_read, False),
    ]


def _share(metric: str, count: int, of: int, higher_is_better: bool) -> harness.TableRow:
    reason = None if of else "the judge gave no answer to count"
    return harness.TableRow(metric, count / of if of else None, of, higher_is_better, reason)
