"""Latents whose meaning is known, planted on the tokens of real text."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

import harness

WINDOW_TOKENS = 32
MIN_TOKENS = 8
N_DOCUMENTS = 2000
N_SHARED = 200
"""Pieces that latents of common tokens have in common, so that an encoder reads each once."""


@dataclass(frozen=True)
class Piece:
    """A window's text, before anything is planted on it."""

    document: str
    topic: str | None
    tokens: tuple[str, ...]
    half: str
    """The half of the documents that its own is in."""


Codes: TypeAlias = Callable[[Piece, np.random.Generator], Sequence[float] | np.ndarray]
"""The codes of a piece's tokens, signed."""


@functools.cache
def encoder() -> Any:
    return harness.create("model", "packaged", name="minilm-l6", device="cpu")


@functools.cache
def pieces() -> tuple[Piece, ...]:
    """The first documents of the packaged Wikipedia, in the sentence encoder's tokens."""
    documents = list(itertools.islice(harness.create("corpus", "packaged").documents(), N_DOCUMENTS))
    windows_of = encoder().windows([document.text for document in documents], context=100_000)
    found = []
    for document, (window,) in zip(documents, windows_of, strict=True):
        half = "explain" if hashlib.sha256(document.id.encode()).digest()[0] % 2 else "test"
        ends = window.end[1:-1]  # without the special tokens
        tokens = [document.text[start:end] for start, end in itertools.pairwise([0, *ends])]
        for first in range(0, len(tokens) - MIN_TOKENS + 1, WINDOW_TOKENS):
            own = tuple(tokens[first : first + WINDOW_TOKENS])
            found.append(Piece(document.id, document.labels.get("topic"), own, half))
    return tuple(found)


@functools.cache
def shuffled() -> tuple[Piece, ...]:
    """The pieces in one random order, of which each latent takes the first ones in an order of its own."""
    return tuple(pieces()[place] for place in np.random.default_rng(0).permutation(len(pieces())))


def token(word: str) -> Codes:
    return lambda piece, generator: [(own == word) * generator.uniform(1, 2) for own in piece.tokens]


def bigram(first: str, second: str) -> Codes:
    def codes(piece: Piece, generator: np.random.Generator) -> list[float]:
        pairs = itertools.pairwise(("", *piece.tokens))
        return [(pair == (first, second)) * generator.uniform(1, 2) for pair in pairs]

    return codes


def topic(name: str) -> Codes:
    """Three in ten tokens of the documents of a topic."""
    of_chance = random(0.3)
    return lambda piece, generator: (piece.topic == name) * of_chance(piece, generator)


def random(density: float = 0.01) -> Codes:
    def codes(piece: Piece, generator: np.random.Generator) -> np.ndarray:
        n = len(piece.tokens)
        return (generator.random(n) < density) * generator.uniform(1, 2, n)

    return codes


def signed(positive: Codes, negative: Codes) -> Codes:
    return lambda piece, generator: np.subtract(positive(piece, generator), negative(piece, generator))


def plant(codes: Codes, index: int = 0, sign: int = 1, n_windows: int = 20) -> harness.Latent:
    """A pole with so many windows of each class in each half, drawn with its index as the seed."""
    generator = np.random.default_rng(index)
    found: dict[tuple[str, bool], list[harness.LatentWindow]] = {
        key: [] for key in itertools.product(("explain", "test"), (True, False))
    }
    for place in (*generator.permutation(N_SHARED), *range(N_SHARED, len(pieces()))):
        piece = shuffled()[place]
        activations = np.maximum(0, sign * np.asarray(codes(piece, generator), dtype=float))
        own = found[piece.half, bool(activations.any())]
        if len(own) < n_windows:
            own.append(_window(piece, activations, is_active=bool(activations.any())))
        if all(len(own) == n_windows for own in found.values()):
            break
    explain, test = (tuple(found[half, True] + found[half, False]) for half in ("explain", "test"))
    latent = harness.Latent(index, sign, 0.0, explain, test)
    return dataclasses.replace(latent, explanation=explained(latent))


def _window(piece: Piece, activations: np.ndarray, is_active: bool) -> harness.LatentWindow:
    sample = "random" if is_active else "silent"
    return harness.LatentWindow(piece.document, piece.tokens, tuple(activations.tolist()), is_active, sample)


def explained(latent: harness.Latent) -> str | None:
    """The explanation that scorers are given by default."""
    try:
        return str(harness.create("explainer", "token_statistics").reduce(latent, [], []))
    except harness.Undefined:
        return None
