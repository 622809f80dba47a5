"""Embedding intruder: does a silent window stand out among active ones?

Word intrusion (Chang et al. 2009) on windows of text, with a sentence encoder as the judge: of four active test windows
and a silent one, the guess is the window that is least like the others, argmin_i mean_{j≠i} cos(e_i, e_j). No
explanation is needed, so none is to blame. What is shown and what comes of it is told by `trials`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.scorers import DetectionConfig
from plugins.scorers.detection import chosen_windows
from plugins.scorers.trials import CHANCE, N_ACTIVE, trials_of


class EmbeddingIntruder:
    """Asks a sentence encoder."""

    metric = "accuracy"
    chance = CHANCE

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
        trials, random_trials = trials_of(chosen_windows(latent, self._config.negatives).test)
        (embeddings,) = responses
        return [
            harness.TableRow(self.metric, _accuracy(embeddings, trials), len(trials), True),
            harness.TableRow(f"{self.metric}_random_windows", _accuracy(embeddings, random_trials), len(random_trials)),
        ]


def _accuracy(embeddings: Float[Tensor, "n d"], trials: list[list[int]]) -> float:
    """The share of trials in which the last window is least like the others."""
    e = embeddings[torch.tensor(trials)]
    cosines = torch.einsum("tid,tjd->tij", e, e)
    likeness = (cosines.sum(dim=2) - cosines.diagonal(dim1=1, dim2=2)) / N_ACTIVE
    is_guess = likeness == likeness.min(dim=1, keepdim=True).values
    return float((is_guess[:, -1] / is_guess.sum(dim=1)).double().mean())
