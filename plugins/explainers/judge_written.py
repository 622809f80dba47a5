"""Judge-written: a language model says in one short phrase what the active tokens of a latent have in common.

After the explainer of Paulo et al. 2024 (arXiv 2410.13928, section 3.2): it sees the active explain windows, strongest
first, with the active tokens between << and >>, and below each text how strongly each of them is active. A token's
number is ⌈10 a / a_max⌉, with a its activation and a_max the largest in these windows: 1 to 10 for every active token.
Windows without an active token are not shown.

The explanation is the first line of the answer, without quotation marks and without what the judge thought before it
(see `written`). An answer without letters or digits in that line, one that is longer than 300 characters, one that
breaks off in the thinking, and none at all leave the latent without an explanation: what is none is not scored as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import harness
from harness.plugins.explainers import JudgeWrittenConfig
from harness.plugins.scorers.choice_fuzzing import MARKS, marked
from harness.plugins.scorers.written import spoken

MAX_CHARACTERS = 300
LEVELS = 10

SYSTEM = (
    "You find out what a feature of a language model stands for. You are shown texts in which it is active: on the "
    f"words between {MARKS[0]} and {MARKS[1]}, and how strongly, from 1 to {LEVELS}. Answer with one short phrase that "
    "says what these words, or the texts around them, have in common. No introduction, no list, no quotation marks."
)
_QUESTION = "The phrase:"
_QUOTES = "\"'`“”‘’"


class JudgeWritten:
    """Asks a judge once for each latent."""

    max_characters = MAX_CHARACTERS

    def __init__(self, config: JudgeWrittenConfig) -> None:
        self._max_tokens = config.max_tokens

    def plan(self, latent: harness.Latent) -> list[harness.Generate]:
        """One prompt with all active windows."""
        active = [window for window in latent.explain if window.is_active]
        if not active:
            raise harness.Undefined("there is no active explain window")
        active.sort(key=lambda window: (-max(window.activations), window.text))
        strongest = max(active[0].activations)
        shown = [_shown(window, latent.threshold, strongest) for window in active]
        return [harness.Generate(SYSTEM, "\n\n".join([*shown, _QUESTION]), self._max_tokens)]

    def reduce(self, latent: harness.Latent, requests: Sequence[harness.Generate], responses: Sequence[Any]) -> str:
        """The phrase that was answered."""
        (answer,) = responses
        if isinstance(answer, harness.Failure):
            raise harness.Undefined(f"the judge did not answer: {answer.reason}")
        if (said := spoken(answer)) is None:
            raise harness.Undefined(f"the judge was still thinking after {self._max_tokens} tokens; raise max_tokens")
        line = said.strip().partition("\n")[0].strip(_QUOTES + " ")
        if not any(map(str.isalnum, line)):
            raise harness.Undefined(f"the judge's answer has no words: {said[:40]!r}")
        if len(line) > MAX_CHARACTERS:
            raise harness.Undefined(f"the judge's answer is longer than {MAX_CHARACTERS} characters: {line[:40]!r}…")
        return str(line)


def _shown(window: harness.LatentWindow, threshold: float, strongest: float) -> str:
    """A text with marks, and below it the numbers of its active tokens."""
    active = [place for place, activation in enumerate(window.activations) if activation > threshold]
    levels = [f"{window.tokens[place].strip()} {level(window.activations[place], strongest)}" for place in active]
    return f"Text: {' '.join(marked(window, active).split())}\nActive: {', '.join(levels)}"


def level(activation: float, strongest: float) -> int:
    """⌈10 a / a_max⌉: an activation as a whole number from 1 to 10."""
    return math.ceil(LEVELS * activation / strongest)
