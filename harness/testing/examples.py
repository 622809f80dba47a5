"""Examples that plugins are tried on: rows of made-up activations, and latents whose meaning is known."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.contracts.latent import Latent, LatentWindow
from harness.contracts.requests import Choose, Embed, Generate, Likelihood
from harness.contracts.rows import make_rows
from harness.testing.subject import WIDTH, direction_of

WINDOW_TOKENS = 12
WINDOWS_OF_A_CLASS = 20
N_WORDS = 200
_E = 256
_SAID = 3

Activations: TypeAlias = Callable[[Sequence[str], np.random.Generator], Sequence[float]]
"""A function that gives the activations of a latent on the tokens of a window."""


def rows(n: int, d: int, seed: int = 0) -> Float[Tensor, "n d"]:
    """Rows like activations, in float32: sums of about four of 2d directions, with noise, away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(2 * d, d, generator=generator), dim=1)
    codes = torch.rand(n, 2 * d, generator=generator) + 0.5
    codes *= torch.rand(n, 2 * d, generator=generator) < 2 / d
    noise, mean = torch.randn(n, d, generator=generator), torch.randn(d, generator=generator)
    return 3 * codes @ directions + 0.1 * noise + mean


def identities(n: int) -> pd.DataFrame:
    """The tokens that n rows are of: documents of 40 tokens, each three characters long."""
    document, position = np.divmod(np.arange(n), 40)
    names = [f"document {number}" for number in document]
    columns = {"document": names, "window": np.zeros(n), "position": position}
    return make_rows(columns | {"start": position * 3, "end": position * 3 + 3})


class Atoms(Decomposition):
    """Latents are rows of the data; just enough of a decomposition to be compared."""

    dictionary: Float[Tensor, "m d"]

    def __init__(self, dictionary: Float[Tensor, "m d"]) -> None:
        self.dictionary = dictionary

    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        """The products with all atoms."""
        return Codes(x @ self.dictionary.T.to(x.dtype))

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        """The sum of the atoms, each times its code."""
        return codes.values @ self.dictionary.to(codes.values.dtype)


def atoms(n_atoms: int, n_candidates: int = 400, d: int = 12, seed: int = 0) -> Atoms:
    """Atoms drawn from the rows of one pool, whatever the seed."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(n_candidates, generator=generator)[:n_atoms]
    pool = identities(n_candidates)
    decomposition = Atoms(rows(n_candidates, d)[places])
    columns = ["document", "window", "position", "start", "end"]
    decomposition.atoms = pool.iloc[places.numpy()][columns].reset_index(drop=True)
    decomposition.candidates = pool[["document", "window", "position", "end"]]
    decomposition.tokenizer_hash = "a tokenizer"
    return decomposition


def on_token(token: str) -> Activations:
    """A latent that stands for one token."""
    return lambda tokens, generator: [float(own == token) * generator.uniform(1, 2) for own in tokens]


def at_random(density: float = 0.05) -> Activations:
    """A latent that stands for nothing."""
    return lambda tokens, generator: list(
        (generator.random(len(tokens)) < density) * generator.uniform(1, 2, len(tokens))
    )


def latent(
    activations: Activations,
    index: int,
    n: int = WINDOWS_OF_A_CLASS,
    other: Latent | None = None,
    direction: Float[Tensor, " d"] | None = None,
) -> Latent:
    """A latent with n windows of each class in each half; its index is the seed of its texts, and of its direction if
    none is given.
    """
    generator = np.random.default_rng(index)
    found: dict[bool, list[LatentWindow]] = {True: [], False: []}
    for number, tokens in enumerate(_texts(generator)):
        values = tuple(float(value) for value in activations(tokens, generator))
        is_active = any(values)
        sample = "random" if is_active else "silent"
        found[is_active].append(LatentWindow(f"document {number}", tokens, values, is_active, sample))
        if min(map(len, found.values())) >= 2 * n:
            break
    explain, test = ((*found[True][half], *found[False][half]) for half in (slice(n), slice(n, 2 * n)))
    source = found[True][0].text if n else None
    if direction is None:
        drawn = torch.randn(WIDTH, generator=torch.Generator().manual_seed(index))
        direction = torch.nn.functional.normalize(drawn, dim=0)
    return Latent(index, 1, 0.0, explain, test, direction, source, other, explanation=_said(explain))


def _said(windows: Sequence[LatentWindow]) -> str | None:
    """An explanation: the tokens on which a latent is most active, taken together."""
    sums: dict[str, float] = defaultdict(float)
    for window in windows:
        for token, activation in zip(window.tokens, window.activations, strict=True):
            sums[token.strip()] += activation
    best = sorted(sums, key=lambda token: -sums[token])[:_SAID]
    return ", ".join(token for token in best if sums[token] > 0) or None


def planted(index: int, n: int = WINDOWS_OF_A_CLASS) -> Latent:
    """A latent that stands for one frequent word, and beside it one that stands for nothing."""
    word = f" word{3 + index % 10}"
    return latent(on_token(word), index, n, latent(at_random(), 10_000 + index, n), direction_of(word))


def meaningless(index: int) -> Latent:
    """A latent that stands for nothing, and beside it another one."""
    return latent(at_random(), index, other=latent(at_random(), 10_000 + index))


def _texts(generator: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Windows of words drawn by Zipf's law, without end."""
    share = 1 / np.arange(1, N_WORDS + 1)
    while True:
        for words in generator.choice(N_WORDS, size=(100, WINDOW_TOKENS), p=share / share.sum()).tolist():
            yield tuple(f" word{word}" for word in words)


def embedded(texts: Sequence[str]) -> Float[Tensor, "n e"]:
    """Stands in for a sentence encoder: texts that share words are alike. Of unit norm, in float64."""
    return torch.stack([_embedded(text) for text in texts])


def responded(request: Embed | Choose | Generate | Likelihood) -> Any:
    """Stands in for whoever answers a request: an encoder that sees shared words, and a judge that does.

    The likelier the first choice, the more words what comes after the last blank line shares with what comes before.
    """
    if isinstance(request, Embed):
        return embedded(request.texts)
    if isinstance(request, Generate):
        if request.schema is not None:
            return json.dumps(_fitting(json.loads(request.schema), request.user))
        return " ".join(request.user.split()[: request.max_tokens])
    if isinstance(request, Likelihood):
        n = len(request.text.split())
        return n * (_likeness(request.context, request.text) - 2), n
    before, _, after = request.user.rpartition("\n\n")
    likeness = _likeness(before, after)
    return tuple(likeness - 2 if place == 0 else -1.0 - likeness for place in range(len(request.choices)))


def _fitting(schema: Any, seed: str) -> Any:
    """Something of objects, lists and what is enumerated that a JSON schema allows; the seed decides."""
    if "enum" in schema:
        return schema["enum"][hashlib.sha256(seed.encode()).digest()[0] % len(schema["enum"])]
    if schema["type"] == "object":
        return {name: _fitting(own, f"{seed}/{name}") for name, own in schema["properties"].items()}
    return [_fitting(schema["items"], f"{seed}/{place}") for place in range(schema["minItems"])]


def _likeness(text: str, other: str) -> float:
    one, two = embedded([" ".join(re.findall(r"\w+", own)) for own in (text, other)])  # marks are no words
    return float(one @ two)


@functools.lru_cache(10_000)  # scorers ask of the same texts again and again
def _embedded(text: str) -> Float[Tensor, " e"]:
    words = torch.stack([_word(word) for word in text.split() or [""]])
    return torch.nn.functional.normalize(words.mean(dim=0), dim=0)


@functools.cache
def _word(word: str) -> Float[Tensor, " e"]:
    seed = int.from_bytes(hashlib.sha256(word.strip(",.:").encode()).digest()[:6], "big")
    return torch.randn(_E, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
