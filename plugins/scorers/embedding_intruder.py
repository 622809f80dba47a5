"""Embedding intruder: does a silent window stand out among active ones?

Word intrusion (Chang et al. 2009) on windows of text, with a sentence encoder as the judge: of four active test windows
and a silent one, the guess is the window that is least like the others, argmin_i mean_{j≠i} cos(e_i, e_j). No
explanation is needed, so none is to blame. What is shown and what comes of it is told by `trials`. A verdict's score is
by how much less the silent window is like the others than the next of the five is: above 0 where it was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.detection import chosen_windows
from harness.plugins.scorers.trials import CHANCE, N_ACTIVE, trials_of, verdict


class EmbeddingIntruder:
    """Asks a sentence encoder which window stands out."""

    metric = "accuracy"
    chance = CHANCE

    def __init__(self, config: DetectionConfig) -> None:
        self._config = config

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        """Embeddings of the test windows."""
        test = chosen_windows(latent, self._config.negatives).test
        return [harness.Embed(tuple(window.text for window in test))]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Embed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The accuracy with verdicts on silent windows, and its control."""
        windows = chosen_windows(latent, self._config.negatives).test
        trials, random_trials = trials_of(windows)
        (embeddings,) = responses
        likeness = _likeness(embeddings, trials)
        shares = _shares(likeness)
        scores = likeness[:, :-1].min(dim=1).values - likeness[:, -1]
        verdicts = [
            verdict(windows[trial[-1]], share, score)
            for trial, share, score in zip(trials, shares.tolist(), scores.tolist(), strict=True)
        ]
        at_random = _mean(_shares(_likeness(embeddings, random_trials)))
        return [
            harness.TableRow(self.metric, _mean(shares), len(trials), True, verdicts=verdicts),
            harness.TableRow(f"{self.metric}_random_windows", at_random, len(random_trials)),
        ]


def _likeness(embeddings: Float[Tensor, "n d"], trials: list[list[int]]) -> Float[Tensor, "t 5"]:
    """The mean cosine of each window of a trial with the others of the trial."""
    e = embeddings[torch.tensor(trials)]
    cosines = torch.einsum("tid,tjd->tij", e, e)
    return (cosines.sum(dim=2) - cosines.diagonal(dim1=1, dim2=2)) / N_ACTIVE


def _shares(likeness: Float[Tensor, "t 5"]) -> Float[Tensor, " t"]:
    """The last window's share of the guess, which is the window least like the others; windows that tie share it."""
    is_guess = likeness == likeness.min(dim=1, keepdim=True).values
    return is_guess[:, -1] / is_guess.sum(dim=1)


def _mean(shares: Float[Tensor, " t"]) -> float:
    return float(shares.double().mean())
