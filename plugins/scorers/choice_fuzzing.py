"""Choice fuzzing: does a judge recognise by the explanation which tokens a latent is active on?

Fuzzing (Paulo et al. 2024, arXiv 2410.13928, 3.3.2) as `choices` asks it. Tokens are marked in active test windows
only: the active ones where Yes is right, and where No is right those at the places where another of these windows is
active, none of which is active here. Each window lends its places to one other, so that over all texts the places of
right and wrong marks, their numbers, and the windows are the same: neither marks nor texts alone tell them apart. (In
delphi wrong marks are all at one place, in silent windows.) Windows for which there is no partner are left out.
Nothing that is shown is silent, so the kind of negatives would make no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

import harness
from harness.plugins.scorers.calibrated import Case
from harness.plugins.scorers.choices import ChoiceScorer
from harness.plugins.scorers.detection import MIN_WINDOWS

MARKS = "<<", ">>"
_LOOKALIKES = str.maketrans("<>", "‹›")  # what the text has must not pass for a mark


class ChoiceFuzzing(ChoiceScorer):
    """Asks a judge about active test windows with marks, right and wrong ones."""

    system = "You decide whether the words marked with << >> in a text have a pattern. Answer Yes or No."
    question = "Do the marked words have the pattern? Answer Yes or No."

    def __init__(self, config: object) -> None:
        super().__init__()

    def cases(self, latent: harness.Latent) -> list[Case]:
        """Active test windows with right marks, and with wrong ones."""
        return matched_marks(latent)


def matched_marks(latent: harness.Latent) -> list[Case]:
    """Mark each active test window at its own places, and at those of its partner.

    Raises:
        Undefined: too few windows have a partner.
    """
    windows = [window for window in latent.test if window.is_active]
    places = [_active_places(window, latent.threshold) for window in windows]
    pairs = partners(places, [len(window.tokens) for window in windows])
    if len(pairs) < MIN_WINDOWS:
        raise harness.Undefined(
            f"{len(pairs)} active test windows can lend the places of their active tokens to another, fewer than "
            f"{MIN_WINDOWS}"
        )
    right = [(windows[lender], marked(windows[lender], places[lender])) for lender, _ in pairs]
    wrong = [
        (dataclasses.replace(windows[borrower], is_active=False), marked(windows[borrower], places[lender]))
        for lender, borrower in pairs
    ]
    return [*right, *wrong]


def partners(places: Sequence[set[int]], lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of a lender and a borrower, each window once as either, as many as there can be.

    A borrower has a token at each of the lender's places, and is active on none of them.
    """
    forbidden = np.array(
        [[bool(own & others) or max(own) >= n for others, n in zip(places, lengths, strict=True)] for own in places]
    ).reshape(len(places), len(places))
    lenders, borrowers = linear_sum_assignment(forbidden)
    return [
        (int(lender), int(borrower))
        for lender, borrower in zip(lenders, borrowers, strict=True)
        if not forbidden[lender, borrower]
    ]


def marked(window: harness.LatentWindow, places: Iterable[int]) -> str:
    """The window's text with marks around the tokens at these places; tokens in a row share a pair."""
    chosen, opening, closing = set(places), *MARKS
    text = ""
    for place, token in enumerate(window.tokens):
        plain = token.translate(_LOOKALIKES)
        if place in chosen and place - 1 not in chosen:
            space = plain[: len(plain) - len(plain.lstrip())]
            plain = f"{space}{opening}{plain[len(space) :]}"
        if place in chosen and place + 1 not in chosen:
            plain += closing
        text += plain
    return text


def _active_places(window: harness.LatentWindow, threshold: float) -> set[int]:
    return {place for place, activation in enumerate(window.activations) if activation > threshold}
