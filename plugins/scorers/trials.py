"""Trials of intrusion: a window that does not belong among four that do, after Chang et al. 2009.

accuracy: the share of trials in which the guess is the silent window; windows that tie share the guess. Chance is
    1/5. The four are of one band of activation (neighbours by the window's largest activation), and every silent
    window is the intruder of one trial.
accuracy_random_windows: the same of five silent windows, an arbitrary one of which is called the intruder.

The verdict on a silent window is whether it was found where it intruded: the guess, with no tie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import harness

N_ACTIVE = 4
CHANCE = 1 / (N_ACTIVE + 1)


def trials_of(windows: Sequence[harness.LatentWindow]) -> tuple[list[list[int]], list[list[int]]]:
    """The trials, and the trials of silent windows alone: five places among the windows, the last of which intrudes."""
    active = [place for place, window in enumerate(windows) if window.is_active]
    active.sort(key=lambda place: max(windows[place].activations))
    silent = [place for place, window in enumerate(windows) if not window.is_active]
    return trials(active, silent), random_trials(silent)


def trials(active: list[int], silent: list[int]) -> list[list[int]]:
    """Trials of four active windows of a band, and last an intruder. A band of more than four shows them in turn.

    Args:
        active: from the weakest to the strongest; at least four.
        silent: each is the intruder once.
    """
    bands = np.array_split(active, len(active) // N_ACTIVE)
    chosen = []
    for trial, intruder in enumerate(silent):
        band = bands[trial % len(bands)]
        first = trial // len(bands)
        chosen.append([*(int(band[(first + i) % len(band)]) for i in range(N_ACTIVE)), intruder])
    return chosen


def verdict(intruder: harness.LatentWindow, share: float, score: float, shown: str | None = None) -> harness.Verdict:
    """The verdict on a window that intruded in a trial and got this share of the guess."""
    return harness.Verdict(intruder, True, share == 1, score, shown)


def random_trials(silent: list[int]) -> list[list[int]]:
    """Trials with each silent window as the intruder among the four before it, in a circle."""
    n = len(silent)
    return [[silent[(last - N_ACTIVE + i) % n] for i in range(N_ACTIVE + 1)] for last in range(n)]
