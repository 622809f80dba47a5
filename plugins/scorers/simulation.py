"""Simulation: does a judge predict from the explanation how active a latent is on a token?

The simulation of Bills et al. 2023, "Language models can explain neurons in language models", as small judges can do
it. A judge sees a test window with one token marked and answers with a digit; with p(k) its probability of the digit k
the simulated activation is its expectation

    E[a] = Σ_k k p(k) / Σ_k p(k)     for k from 0 to 9.

    ev_correlation: Pearson's correlation of the simulated and the true activations, over all tokens that were asked
        about. Chance is 0.
    ev_correlation_random_explanation: the same with the explanation of another latent.

The verdict on a window that was asked about is whether its largest E[a] is above the mean of the windows' largest; only
differences count, as for the correlation. What is shown is the text with the mark that it is of.

It is asked about up to 5 active windows and 5 silent ones, and about 8 tokens of each: the strongest of an active one,
and others at random. So the published score differs in three ways. There, one prompt asks about all tokens of a window
at once, each after the judge has read the ones before it; it takes log-probabilities of a prompt, which few endpoints
give, and a judge that can follow a table. There, all tokens count, while here strong ones are more frequent than
they are in text, which makes correlations higher. And there, digits go up to 10, which some tokenizers begin
with the token of 1, so that its probability would count for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.asking import NO_OTHER, generator_of, on_one_line
from harness.plugins.scorers.choice_fuzzing import marked
from harness.plugins.scorers.detection import chosen_windows
from harness.plugins.scorers.explanations import explanations

SYSTEM = "You say how strongly a marked word in a text has a pattern. Answer with a digit from 0 to 9."
QUESTION = "How strongly does the word marked with << >> have the pattern, from 0 (not at all) to 9 (fully)?"
CHOICES = tuple("9876543210")
WINDOWS_OF_A_CLASS = 5
N_TOKENS = 8
MIN_TOKENS = 20
_ALIKE = 1e-9
"""Smallest difference of simulated activations that is not rounding."""

Token = tuple[harness.LatentWindow, int]
"""A token: a window and a place in it."""


class Simulation:
    """Asks a judge for the activation on a token, as a digit."""

    metric = "ev_correlation"
    chance = 0.0
    range = (-1.0, 1.0)

    def __init__(self, config: DetectionConfig) -> None:
        self._negatives = config.negatives

    def plan(self, latent: harness.Latent) -> list[harness.Choose]:
        """Requests about all tokens with the explanation, and with that of the other latent if it has one."""
        latent = chosen_windows(latent, self._negatives)
        asked = _asked(latent)
        return [_request(about, window, place) for about in explanations(latent) for window, place in asked]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Choose], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The correlation with verdicts on windows, its control, and the share that was answered."""
        latent = chosen_windows(latent, self._negatives)
        asked = _asked(latent)
        true = [window.activations[place] for window, place in asked]
        n = len(true)
        control = harness.TableRow(f"{self.metric}_random_explanation", None, n, None, NO_OTHER)
        if latent.random_explanation is not None:
            control = _correlation(control.metric, true, responses[n:], None)
        n_answered = sum(not isinstance(response, harness.Failure) for response in responses[:n])
        return [
            replace(_correlation(self.metric, true, responses[:n], True), verdicts=_verdicts(asked, responses[:n])),
            control,
            harness.TableRow("answered", n_answered / n, n, True),
        ]


def _asked(latent: harness.Latent) -> list[Token]:
    """The tokens that are asked about, window by window."""
    generator = generator_of(latent, "simulation")
    found = []
    for kind in (True, False):
        windows = [window for window in latent.test if window.is_active is kind]
        for number in generator.permutation(len(windows))[:WINDOWS_OF_A_CLASS]:
            places = generator.permutation(len(windows[number].tokens)).tolist()
            if kind:
                places.sort(key=lambda place: place != _strongest(windows[number]))  # keeps the order of the others
            found += [(windows[number], place) for place in places[:N_TOKENS]]
    return found


def _strongest(window: harness.LatentWindow) -> int:
    return window.activations.index(max(window.activations))


def _request(about: str, window: harness.LatentWindow, place: int) -> harness.Choose:
    return harness.Choose(SYSTEM, f"Pattern: {about}\n\nText: {_shown(window, place)}\n{QUESTION}", CHOICES)


def _shown(window: harness.LatentWindow, place: int) -> str:
    return on_one_line(marked(window, [place]))


def _correlation(
    metric: str, true: Sequence[float], responses: Sequence[Any], higher_is_better: bool | None
) -> harness.TableRow:
    """The correlation over answered tokens; a constant has none."""
    pairs = [pair for pair in zip(true, responses, strict=True) if not isinstance(pair[1], harness.Failure)]
    n = len(pairs)
    if n < MIN_TOKENS:
        reason = f"the judge answered for {n} tokens, fewer than {MIN_TOKENS}"
        return harness.TableRow(metric, None, n, higher_is_better, reason)
    activations = np.array([activation for activation, _ in pairs])
    simulated = _expected(np.array([response for _, response in pairs]))
    for values, reason in (
        (simulated, "the judge says the same of every token"),
        (activations, "every token is alike"),
    ):
        if np.ptp(values) < _ALIKE:
            return harness.TableRow(metric, None, n, higher_is_better, reason)
    return harness.TableRow(metric, float(np.corrcoef(simulated, activations)[0, 1]), n, higher_is_better)


def _expected(log_probabilities: np.ndarray) -> np.ndarray:
    """The expectation E[a] of each row of log-probabilities, whose probabilities need not add up to 1."""
    weights = np.exp(log_probabilities - log_probabilities.max(axis=1, keepdims=True))
    return np.asarray((weights @ np.array(CHOICES, dtype=float)) / weights.sum(axis=1))


def _verdicts(asked: Sequence[Token], responses: Sequence[Any]) -> list[harness.Verdict]:
    """The verdict on each window that was asked about."""
    pairs = zip(asked, responses, strict=True)
    by_window = [list(own) for _, own in groupby(pairs, lambda pair: id(pair[0][0]))]
    peaks = [_peak(own) for own in by_window]
    known = [peak[0] for peak in peaks if peak is not None]
    cut = sum(known) / len(known) + _ALIKE if known else 0.0
    return [_verdict(own, peak, cut) for own, peak in zip(by_window, peaks, strict=True)]


def _peak(answered: Sequence[tuple[Token, Any]]) -> tuple[float, int] | None:
    """The largest E[a] of a window's tokens, and its place; None where there is no answer."""
    known = [(token, response) for token, response in answered if not isinstance(response, harness.Failure)]
    return max(((_expected(np.array([own])).item(), place) for (_, place), own in known), default=None)


def _verdict(answered: Sequence[tuple[Token, Any]], peak: tuple[float, int] | None, cut: float) -> harness.Verdict:
    (window, _), response = answered[0]
    if peak is None:
        return harness.Verdict(window, window.is_active, None, reason=response.reason)
    simulated, place = peak
    return harness.Verdict(window, window.is_active, simulated > cut, simulated, _shown(window, place))
