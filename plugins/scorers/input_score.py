"""Input score: is a latent active on the very tokens that its direction promotes?

Arad et al. 2025 (arXiv 2505.20063, section 3), with T the 20 tokens that the direction promotes by the logit lens (see
`promoted`):

    input_score: the share of active windows whose strongest token is in T. All active windows count, explain and test:
        T is read off the direction, and no window has a part in it. Chance is next to 0.
    input_score_random_explanation: the same with T of another latent.

High scores are of latents that repeat what the model reads; with a low output score they are of little use for
steering. Tokens are compared by their text, the space before a word included; a token that is part of a character has
none and is in no T.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
from plugins.scorers.detection import MIN_WINDOWS
from plugins.scorers.promoted import control_row, own_and_other


class InputScore:
    """Asks the head of the model whose activations are decomposed."""

    metric = "input_score"
    chance = 0.0

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[harness.Unembed]:
        """The promoted tokens of the latent and of the other one."""
        if (n := len(_peaks(latent))) < MIN_WINDOWS:
            raise harness.Undefined(f"{n} active windows, fewer than {MIN_WINDOWS}")
        return [own_and_other(latent)]

    def reduce(
        self, latent: harness.Latent, requests: list[harness.Unembed], responses: list[Any]
    ) -> list[harness.TableRow]:
        """The share, and its control."""
        peaks = _peaks(latent)
        ((own, *other),) = responses
        by_other = _share_in(other[0].texts, peaks) if other else None
        return [
            harness.TableRow(self.metric, _share_in(own.texts, peaks), len(peaks), True),
            control_row(self.metric, by_other, len(peaks)),
        ]


def _peaks(latent: harness.Latent) -> list[str]:
    """The strongest token of each active window."""
    windows = [window for window in (*latent.explain, *latent.test) if window.is_active]
    return [window.tokens[window.activations.index(max(window.activations))] for window in windows]


def _share_in(promoted: Sequence[str], tokens: list[str]) -> float:
    return sum(token in promoted for token in tokens) / len(tokens)
