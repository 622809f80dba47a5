"""Input score: is a latent active on the very tokens that its direction promotes?

Arad et al. 2025 (arXiv 2505.20063, section 3), with T the 20 tokens that the direction promotes by the logit lens (see
`promoted`):

    input_score: the share of active windows whose strongest token is in T. All active windows count, explain and test:
        T is read off the direction, and no window has a part in it. Chance is stated as 0: of V tokens, 20 drawn
        evenly hold the strongest one 20/V of the time. What it is for these windows the controls say.
    input_score_random_direction: the mean over T of 100 directions drawn evenly from the unit sphere. It is above 20/V
        where such directions promote frequent tokens, or where the vocabulary is small.
    input_score_random_explanation: the same with T of another latent.

High scores are of latents that repeat what the model reads; with a low output score they are of little use for
steering. Tokens are compared by their text, the space before a word included; a token that is part of a character has
none and is in no T.

The verdict on an active test window is whether its strongest token is in T.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
from harness.plugins.scorers.detection import MIN_WINDOWS
from harness.plugins.scorers.promoted import N_TOKENS, control_row, own_and_other, random_directions


class InputScore:
    """Asks the head of the model whose activations are decomposed."""

    metric = "input_score"
    chance = 0.0

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[harness.Unembed]:
        """Requests for the tokens promoted by the latent, by the other latent, and by random directions."""
        if (n := len(_peaks(latent))) < MIN_WINDOWS:
            raise harness.Undefined(f"{n} active windows, fewer than {MIN_WINDOWS}")
        asked = own_and_other(latent)
        return [asked, harness.Unembed(random_directions(asked.directions.shape[1]), N_TOKENS)]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Unembed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The share, and its controls."""
        peaks = _peaks(latent)
        (own, *other), at_random = responses
        test = [window for window in latent.test if window.is_active]
        verdicts = [harness.Verdict(window, True, window.peak_token in own.texts) for window in test]
        by_other = _share_in(other[0].texts, peaks) if other else None
        by_random = sum(_share_in(promoted.texts, peaks) for promoted in at_random) / len(at_random)
        return [
            harness.TableRow(self.metric, _share_in(own.texts, peaks), len(peaks), True, verdicts=verdicts),
            harness.TableRow(f"{self.metric}_random_direction", by_random, len(peaks)),
            control_row(self.metric, by_other, len(peaks)),
        ]


def _peaks(latent: harness.Latent) -> list[str]:
    """The token of each active window on which the latent is most active."""
    return [window.peak_token for window in (*latent.explain, *latent.test) if window.is_active]


def _share_in(promoted: Sequence[str], tokens: list[str]) -> float:
    return sum(token in promoted for token in tokens) / len(tokens)
