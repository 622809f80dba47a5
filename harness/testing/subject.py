"""Stands in for the subject model: tokens are words, and its activations on a word are that word's own direction.

The head promotes the words whose directions an activation is like. After any prompt it is sure of one word, which only
large multiples of another word's direction can outdo. A latent is active on the words that are much like it.
"""

from __future__ import annotations

import functools
import hashlib
import re

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.latent import Latent
from harness.contracts.requests import Activate, Activated, Promoted, Steer, Unembed

WIDTH = 64
_N_WORDS = 3000
_HEAD_NORM = 8.0
_SURE = 100.0
_ALIKE = 0.9


@functools.cache
def _unembedding() -> Float[Tensor, "v d"]:
    drawn = torch.randn(_N_WORDS, WIDTH, generator=torch.Generator().manual_seed(0))
    return _HEAD_NORM * torch.nn.functional.normalize(drawn, dim=1)


def direction_of(word: str) -> Float[Tensor, " d"]:
    """The direction of a word, of unit norm."""
    return _unembedding()[_id(word)] / _HEAD_NORM


def activated(latent: Latent, request: Activate) -> list[Activated]:
    """The response to `Activate`; the first word of a text is left out, as in capture."""
    found = []
    for text in request.texts:
        tokens = tuple(re.findall(r"\s*\S+", text))
        activations = [_activation(latent, token) if place else 0.0 for place, token in enumerate(tokens)]
        found.append(Activated(tokens, tuple(activations)))
    return found


def steered(latent: Latent, request: Steer) -> Float[Tensor, "r v"]:
    """The response to `Steer`."""
    logits = request.additions.float() @ _unembedding().T
    logits[:, _id(request.prompt)] += _SURE
    return logits.double().log_softmax(dim=1)


def promoted(latent: Latent, request: Unembed) -> list[Promoted]:
    """The response to `Unembed`."""
    logits = request.directions.float() @ _unembedding().T
    texts = [f" word{number}" for number in range(_N_WORDS)]
    return [
        Promoted(ids, tuple(texts[number] for number in ids.tolist()), _unembedding()[ids])
        for ids in logits.topk(request.n_tokens).indices
    ]


def _activation(latent: Latent, token: str) -> float:
    if latent.direction is None:
        return 0.0
    likeness = float(latent.direction.float() @ direction_of(token))
    return likeness if likeness > _ALIKE else 0.0


def _id(word: str) -> int:
    known = re.fullmatch(r"\s*word(\d+)", word)
    number = int(known[1]) if known else int.from_bytes(hashlib.sha256(word.encode()).digest()[:6], "big")
    return number % _N_WORDS
