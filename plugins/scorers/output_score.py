"""Output score: does a latent, steered, make the model say what its direction promises?

Arad et al. 2025 (arXiv 2505.20063, section 3): to the residual stream at the site, on the last token of the neutral
prompt "From my experience,", ten times the latent's scale is added along its direction. With p the next-token
probabilities that follow, and T the 20 tokens that the direction promotes by the logit lens (see `promoted`):

    output_score: (1 − min_{t∈T} rank(t) / |V|) · max_{t∈T} p(t), ranks counted from 0 in a vocabulary of |V| tokens.
        Near 1 where later layers pass the direction on to the vocabulary. Chance is next to 0: 20 tokens of all.
    output_score_random_explanation: with the same steering, and T of another latent.
    output_score_random_direction: of a random direction (Gaussian in every dimension) of the same norm as what is
        added, with its own T. Whatever is added at ten times a scale shows up in the vocabulary, all the more in
        late layers: what a latent owes to this is no merit of its own.

The latent's scale is here its largest activation on explain windows, so that what is added is ten times the latent's
strongest contribution for any method. The authors take that of the strongest latent on the prompt, which is another
amount for every method, and nothing to scale by where codes are dense.

It says nothing of single windows: what is steered is one prompt, which is none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.scorers.promoted import N_TOKENS, control_row, direction_of, own_and_other

PROMPT = "From my experience,"
MULTIPLE = 10


class OutputScore:
    """Asks the model whose activations are decomposed."""

    metric = "output_score"
    chance = 0.0

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[Any]:
        """Requests for the tokens promoted by the latent, a random direction and the other latent; and for both
        steerings.
        """
        addition = MULTIPLE * _scale(latent) * direction_of(latent)
        random = _random_like(addition, latent)
        additions = torch.stack([addition, random])
        return [own_and_other(latent), harness.Unembed(random[None], N_TOKENS), harness.Steer(PROMPT, additions)]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[Any], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The score and its controls, each of one prompt."""
        (own, *other), (of_random,), (steered, steered_at_random) = responses
        by_other = _score(steered, other[0].ids) if other else None
        at_random = _score(steered_at_random, of_random.ids)
        return [
            harness.TableRow(self.metric, _score(steered, own.ids), 1, True),
            control_row(self.metric, by_other, 1),
            harness.TableRow(f"{self.metric}_random_direction", at_random, 1),
        ]


def _scale(latent: harness.Latent) -> float:
    largest = max((value for window in latent.explain for value in window.activations), default=0.0)
    if largest <= 0:
        raise harness.Undefined("no explain window says how strongly the latent is active")
    return largest


def _random_like(addition: Float[Tensor, " d"], latent: harness.Latent) -> Float[Tensor, " d"]:
    generator = np.random.default_rng([latent.index, latent.sign > 0])
    drawn = torch.from_numpy(generator.standard_normal(len(addition)))
    scale: Tensor = addition.double().norm() / drawn.norm()
    return (drawn * scale).to(addition)


def _score(log_probabilities: Float[Tensor, " v"], ids: Tensor) -> float:
    best = log_probabilities[ids].max()
    rank = int((log_probabilities > best).sum())
    return (1 - rank / len(log_probabilities)) * float(best.exp())
