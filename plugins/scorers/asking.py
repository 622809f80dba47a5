"""The common parts of scorers that ask a judge.

answered: the share of the texts, trials or tokens for which a judge gave all answers. The others are left out of
    all metrics but the next, and these are undefined where too few are left.
x_failures_wrong: the main metric x if every missing answer had been wrong, which is the lowest value that it could
    have had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

import harness
from harness.plugins.scorers.detection import MIN_WINDOWS

NOTHING = "various unrelated texts"
"""An explanation that says nothing."""
NO_OTHER = "there is no other latent with an explanation"
"""The reason for a control without a value."""


def generator_of(latent: harness.Latent, purpose: str) -> np.random.Generator:
    """A random generator for a latent and a purpose, which is the same each time, whatever else is drawn."""
    digest = hashlib.sha256(f"{purpose}/{latent.index}/{latent.sign}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def on_one_line(text: str) -> str:
    """Replace all white space by single spaces, so that a text can't pass for the next part of a prompt."""
    return " ".join(text.split())


def too_few(is_active: Sequence[bool], asked: str) -> str | None:
    """The reason why there are too few answers to measure by, given the class of each; None if both have enough."""
    for kind, what in ((True, "accept"), (False, "refuse")):
        n = sum(own is kind for own in is_active)
        if n < MIN_WINDOWS:
            return f"the judge answered for {n} of the {asked} to {what}, fewer than {MIN_WINDOWS}"
    return None


def verdict(
    window: harness.LatentWindow, text: str, says: bool | None, score: float | None = None, reason: str | None = None
) -> harness.Verdict:
    """The judge's verdict on a window that was shown as this text."""
    return harness.Verdict(window, window.is_active, says, score, None if text == window.text else text, reason)
