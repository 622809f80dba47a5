"""Embedding intruder: does a silent window stand out among active ones?

Word intrusion (Chang et al. 2009) on windows of text, with a sentence encoder as the judge: of four active test windows
and a silent one, the guess is the window that is least like the others, argmin_i mean_{j≠i} cos(e_i, e_j). No
explanation is needed, so none is to blame.

    accuracy: the share of trials in which the guess is the silent window; windows that tie share the guess. Chance is
        1/5. The four are of one band of activation (neighbours by the window's largest activation), and every silent
        window is the intruder of one trial.
    accuracy_random_windows: the same of five silent windows, an arbitrary one of which is called the intruder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.scorers import DetectionConfig
from plugins.scorers.detection import chosen_windows

N_ACTIVE = 4


class EmbeddingIntruder:
    """Asks a sentence encoder."""

    metric = "accuracy"
    chance = 1 / (N_ACTIVE + 1)

    def __init__(self, config: DetectionConfig) -> None:
        self._config = config

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        """Embeddings of the test windows."""
        test = chosen_windows(latent, self._config.negatives).test
        return [harness.Embed(tuple(window.text for window in test))]

    def reduce(
        self, latent: harness.Latent, requests: list[harness.Embed], responses: list[Any]
    ) -> list[harness.TableRow]:
        """The accuracy, and its control."""
        active, silent = _places(chosen_windows(latent, self._config.negatives).test)
        trials, random_trials = _trials(active, silent), _random_trials(silent)
        (embeddings,) = responses
        return [
            harness.TableRow(self.metric, _accuracy(embeddings, trials), len(trials), True),
            harness.TableRow(f"{self.metric}_random_windows", _accuracy(embeddings, random_trials), len(random_trials)),
        ]


def _places(windows: Sequence[harness.LatentWindow]) -> tuple[list[int], list[int]]:
    """The active windows from the weakest to the strongest, and the silent ones."""
    active = [place for place, window in enumerate(windows) if window.is_active]
    active.sort(key=lambda place: max(windows[place].activations))
    return active, [place for place, window in enumerate(windows) if not window.is_active]


def _trials(active: list[int], silent: list[int]) -> list[list[int]]:
    """Four active windows of a band, and last an intruder. A band of more than four shows them in turn."""
    bands = np.array_split(active, len(active) // N_ACTIVE)
    chosen = []
    for trial, intruder in enumerate(silent):
        band = bands[trial % len(bands)]
        first = trial // len(bands)
        chosen.append([*(int(band[(first + i) % len(band)]) for i in range(N_ACTIVE)), intruder])
    return chosen


def _random_trials(silent: list[int]) -> list[list[int]]:
    """Each silent window as the intruder among the four before it, in a circle."""
    n = len(silent)
    return [[silent[(last - N_ACTIVE + i) % n] for i in range(N_ACTIVE + 1)] for last in range(n)]


def _accuracy(embeddings: Float[Tensor, "n d"], trials: list[list[int]]) -> float:
    """The share of trials in which the last window is least like the others."""
    e = embeddings[torch.tensor(trials)]
    cosines = torch.einsum("tid,tjd->tij", e, e)
    likeness = (cosines.sum(dim=2) - cosines.diagonal(dim1=1, dim2=2)) / N_ACTIVE
    is_guess = likeness == likeness.min(dim=1, keepdim=True).values
    return float((is_guess[:, -1] / is_guess.sum(dim=1)).double().mean())
