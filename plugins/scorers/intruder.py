"""Intruder: does a judge notice the silent window among active ones?

The intruder test of arXiv 2507.08473: a judge sees four active test windows and a silent one, numbered, and says which
does not belong. No explanation is needed, so none is to blame. What is shown and what comes of it is told by `trials`;
`embedding_intruder` asks a sentence encoder of the same trials.

Small judges prefer some numbers whatever they are shown. With l(t, i) = log p(i | trial t) the guess is

    argmax_i [l(t, i) − mean_t' l(t', i)],

the mean over all trials of the latent, in which the intruder is at each place as often as at any other: a judge that
sees nothing but places has five that tie. The four are shuffled. A verdict's score is how likely the silent window was
held to be the intruder, exp of its [l − mean] over the sum of the five's; even odds are 1/5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.asking import generator_of, on_one_line
from harness.plugins.scorers.detection import MIN_WINDOWS, chosen_windows
from harness.plugins.scorers.trials import CHANCE, N_ACTIVE, trials_of, verdict

SYSTEM = "You decide which of some texts does not belong with the others. Answer with its number."
QUESTION = "All texts but one have a pattern in common. Which is the one that does not? Answer with its number."
CHOICES = tuple(str(number + 1) for number in range(N_ACTIVE + 1))
_DECIMALS = 9
"""Number of decimals to which log-odds are compared: differences beyond are rounding."""


@dataclass(frozen=True)
class Shown:
    """Five windows in the order that a judge sees them in, and the place of the intruder."""

    windows: tuple[harness.LatentWindow, ...]
    intruder: int

    @property
    def text(self) -> str:
        """The numbered windows, as a judge sees them."""
        texts = (on_one_line(window.text) for window in self.windows)
        return "\n".join(f"{number}. {text}" for number, text in zip(CHOICES, texts, strict=True))


@dataclass(frozen=True)
class Guess:
    """A judge's guess in one trial, as far as the intruder goes."""

    share: float
    """The intruder's share of the guess, which windows that tie share equally."""
    probability: float


class Intruder:
    """Asks a judge for the number of the window that does not belong."""

    metric = "accuracy"
    chance = CHANCE

    def __init__(self, config: DetectionConfig) -> None:
        self._negatives = config.negatives

    def plan(self, latent: harness.Latent) -> list[harness.Choose]:
        """Requests for the trials, and for those of silent windows alone."""
        return [_request(shown) for trials in self._shown(latent) for shown in trials]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Choose], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The accuracy with verdicts on silent windows, its control, and the metrics of `asking`."""
        trials, random_trials = self._shown(latent)
        n = len(trials)
        guesses = _guesses(trials, responses[:n])
        hits, random_hits = _hits(guesses), _hits(_guesses(random_trials, responses[n:]))
        verdicts = list(map(_verdict, trials, guesses))
        return [
            replace(_accuracy(self.metric, hits), verdicts=verdicts),
            _accuracy(f"{self.metric}_random_windows", random_hits, None),
            harness.TableRow(f"{self.metric}_failures_wrong", sum(hits) / n, n, True),
            harness.TableRow("answered", len(hits) / n, n, True),
        ]

    def _shown(self, latent: harness.Latent) -> tuple[list[Shown], list[Shown]]:
        windows = chosen_windows(latent, self._negatives).test
        generator = generator_of(latent, "intruder")
        real, random = (list(_arranged(trials, windows, generator)) for trials in trials_of(windows))
        return real, random


def _arranged(
    trials: Sequence[list[int]], windows: Sequence[harness.LatentWindow], generator: np.random.Generator
) -> Iterator[Shown]:
    """The windows of each trial in the order that they are shown in; the intruder is at each place as often."""
    places = generator.permutation(np.arange(len(trials)) % (N_ACTIVE + 1)).tolist()
    for (*four, last), place in zip(trials, places, strict=True):
        order = generator.permutation(four).tolist()
        order.insert(place, last)
        yield Shown(tuple(windows[number] for number in order), place)


def _request(shown: Shown) -> harness.Choose:
    return harness.Choose(SYSTEM, f"{QUESTION}\n\n{shown.text}", CHOICES)


def _guesses(trials: Sequence[Shown], responses: Sequence[Any]) -> list[Guess | harness.Failure]:
    """The guess in each trial, or the failure in its place."""
    answers = [response for response in responses if not isinstance(response, harness.Failure)]
    found = np.array(answers).reshape(len(answers), len(CHOICES))
    found = (found - found.mean(axis=0)).round(_DECIMALS) if answers else found
    own = iter(found)
    return [
        response if isinstance(response, harness.Failure) else _guess(shown.intruder, next(own))
        for shown, response in zip(trials, responses, strict=True)
    ]


def _guess(place: int, log_odds: Float[np.ndarray, " n"]) -> Guess:
    weights = np.exp(log_odds - log_odds.max())
    is_guess = log_odds == log_odds.max()
    return Guess(float(is_guess[place] / is_guess.sum()), float(weights[place] / weights.sum()))


def _hits(guesses: Sequence[Guess | harness.Failure]) -> list[float]:
    """The intruder's share of the guess in each trial that was answered."""
    return [guess.share for guess in guesses if isinstance(guess, Guess)]


def _verdict(shown: Shown, guess: Guess | harness.Failure) -> harness.Verdict:
    window = shown.windows[shown.intruder]
    if isinstance(guess, harness.Failure):
        return harness.Verdict(window, True, None, shown=shown.text, reason=guess.reason)
    return verdict(window, guess.share, guess.probability, shown.text)


def _accuracy(metric: str, hits: Sequence[float], higher_is_better: bool | None = True) -> harness.TableRow:
    if len(hits) < MIN_WINDOWS:
        reason = f"the judge answered {len(hits)} trials, fewer than {MIN_WINDOWS}"
        return harness.TableRow(metric, None, len(hits), higher_is_better, reason)
    return harness.TableRow(metric, float(np.mean(hits)), len(hits), higher_is_better)
