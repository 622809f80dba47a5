"""Intruder: does a judge notice the silent window among active ones?

The intruder test of arXiv 2507.08473: a judge sees four active test windows and a silent one, numbered, and says which
does not belong. No explanation is needed, so none is to blame. What is shown and what comes of it is told by `trials`;
`embedding_intruder` asks a sentence encoder of the same trials.

Small judges prefer some numbers whatever they are shown. With l(t, i) = log p(i | trial t) the guess is

    argmax_i [l(t, i) − mean_t' l(t', i)],

the mean over all trials of the latent, in which the intruder is at each place as often as at any other: a judge that
sees nothing but places has five that tie. The four are shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import harness
from plugins.scorers import DetectionConfig
from plugins.scorers.asking import generator_of, on_one_line
from plugins.scorers.detection import MIN_WINDOWS, chosen_windows
from plugins.scorers.trials import CHANCE, N_ACTIVE, trials_of

SYSTEM = "You decide which of some texts does not belong with the others. Answer with its number."
QUESTION = "All texts but one have a pattern in common. Which is the one that does not? Answer with its number."
CHOICES = tuple(str(number + 1) for number in range(N_ACTIVE + 1))
_DECIMALS = 9
"""To which places tie: beyond is rounding."""


@dataclass(frozen=True)
class Shown:
    """Five windows as a judge sees them, and the place of the intruder."""

    texts: tuple[str, ...]
    intruder: int


class Intruder:
    """Asks a judge for a number."""

    metric = "accuracy"
    chance = CHANCE

    def __init__(self, config: DetectionConfig) -> None:
        self._negatives = config.negatives

    def plan(self, latent: harness.Latent) -> list[harness.Choose]:
        """The trials, and those of silent windows alone."""
        return [_request(shown) for trials in self._shown(latent) for shown in trials]

    def reduce(
        self, latent: harness.Latent, requests: list[harness.Choose], responses: list[Any]
    ) -> list[harness.TableRow]:
        """The accuracy, its control, and the metrics of `asking`."""
        trials, random_trials = self._shown(latent)
        n = len(trials)
        hits, random_hits = _hits(trials, responses[:n]), _hits(random_trials, responses[n:])
        return [
            _accuracy(self.metric, hits),
            _accuracy(f"{self.metric}_random_windows", random_hits, None),
            harness.TableRow(f"{self.metric}_failures_wrong", sum(hits) / n, n, True),
            harness.TableRow("answered", len(hits) / n, n, True),
        ]

    def _shown(self, latent: harness.Latent) -> tuple[list[Shown], list[Shown]]:
        windows = chosen_windows(latent, self._negatives).test
        texts = [on_one_line(window.text) for window in windows]
        generator = generator_of(latent, "intruder")
        real, random = (list(_arranged(trials, texts, generator)) for trials in trials_of(windows))
        return real, random


def _arranged(trials: Sequence[list[int]], texts: Sequence[str], generator: np.random.Generator) -> Iterator[Shown]:
    """The windows of each trial in the order that they are shown in; the intruder is at each place as often."""
    places = generator.permutation(np.arange(len(trials)) % (N_ACTIVE + 1)).tolist()
    for (*four, last), place in zip(trials, places, strict=True):
        order = generator.permutation(four).tolist()
        order.insert(place, last)
        yield Shown(tuple(texts[window] for window in order), place)


def _request(shown: Shown) -> harness.Choose:
    texts = "\n".join(f"{number}. {text}" for number, text in zip(CHOICES, shown.texts, strict=True))
    return harness.Choose(SYSTEM, f"{QUESTION}\n\n{texts}", CHOICES)


def _hits(trials: Sequence[Shown], responses: Sequence[Any]) -> list[float]:
    """For each trial that was answered, the intruder's share of the guess."""
    pairs = list(zip(trials, responses, strict=True))
    pairs = [(shown, response) for shown, response in pairs if not isinstance(response, harness.Failure)]
    if not pairs:
        return []
    found = np.array([response for _, response in pairs])
    found = (found - found.mean(axis=0)).round(_DECIMALS)
    is_guess = found == found.max(axis=1, keepdims=True)
    places = [shown.intruder for shown, _ in pairs]
    return [float(own[place] / own.sum()) for own, place in zip(is_guess, places, strict=True)]


def _accuracy(metric: str, hits: Sequence[float], higher_is_better: bool | None = True) -> harness.TableRow:
    if len(hits) < MIN_WINDOWS:
        reason = f"the judge answered {len(hits)} trials, fewer than {MIN_WINDOWS}"
        return harness.TableRow(metric, None, len(hits), higher_is_better, reason)
    return harness.TableRow(metric, float(np.mean(hits)), len(hits), higher_is_better)
