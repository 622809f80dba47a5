"""Vocabulary coherence: do the tokens that a direction promotes belong together?

After the vocabulary projection of Gur-Arieh et al. 2025 (arXiv 2501.08319), without a language model: T are the 20
tokens that the direction promotes by the logit lens, c(T) the mean cosine between the rows of the model's unembedding,
over all pairs of T.

    vocab_coherence: (c(T) − μ) / σ, in standard deviations of random directions: μ and σ are of c over T of 100
        directions drawn evenly from the unit sphere of the residual stream, the same for every latent. Chance is 0;
        what is above 3 is rare among random directions. The latent's direction is scaled to unit norm too.
    mean_cosine: c(T) as it is. High in an anisotropic vocabulary for any direction.
    mean_cosine_random_directions: μ.

A direction that is a row of the unembedding scores high: alike tokens have alike rows. It says what a latent is about
only as far as later layers let the direction through, which `output_score` asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.scorers.promoted import N_TOKENS, direction_of, random_directions


class VocabCoherence:
    """Asks the head of the model whose activations are decomposed."""

    metric = "vocab_coherence"
    chance = 0.0
    range = (-float("inf"), float("inf"))

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[harness.Unembed]:
        """Requests for the tokens promoted by the latent, and by random directions."""
        own = torch.nn.functional.normalize(direction_of(latent)[None].float(), dim=1)
        return [harness.Unembed(own, N_TOKENS), harness.Unembed(random_directions(own.shape[1]), N_TOKENS)]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Unembed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The coherence, and the cosines that it is made of."""
        (promoted,), at_random = responses
        own, random = _mean_cosine(promoted.unembedding), [_mean_cosine(of.unembedding) for of in at_random]
        mean, deviation = float(np.mean(random)), float(np.std(random, ddof=1))
        if not deviation > 0:
            raise harness.Undefined("all random directions promote tokens that are equally alike")
        return [
            harness.TableRow(self.metric, (own - mean) / deviation, N_TOKENS, True),
            harness.TableRow("mean_cosine", own, N_TOKENS),
            harness.TableRow("mean_cosine_random_directions", mean, len(random)),
        ]


def _mean_cosine(rows: Float[Tensor, "t e"]) -> float:
    """The mean cosine over pairs of different rows."""
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    n = len(unit)
    return float((unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1)))
