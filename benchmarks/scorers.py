"""Seconds that scorers take for 1,000 latents with 40 windows each, all drawn from one pool of 5,000 windows of text.

Scorers that ask a sentence encoder share one, as those of a suite do: the first of them embeds the pool, and the second
only what is new. Activations are made up, so the scores mean nothing.
Run: `python benchmarks/scorers.py [--latents 1000]`.
"""

from __future__ import annotations

import dataclasses
import itertools
import time

import numpy as np
import torch
from measuring import Table, parser

import harness
from harness.asking.embedding import Embedder

N_POOL = 5000
N_WINDOWS = 40
WINDOW_TOKENS = 32
SCORERS = ("token_lookup", "embedding_intruder", "embedding_retrieval")


def pool() -> list[tuple[str, tuple[str, ...]]]:
    """Windows of the packaged Wikipedia with their documents; a token is a word and the space before it."""
    found = []
    for document in harness.create("corpus", "packaged", name="wikipedia").documents():
        words = [f" {word}" for word in document.text.split()]
        cuts = range(0, len(words) - WINDOW_TOKENS, WINDOW_TOKENS)
        found += [(document.id, tuple(words[first : first + WINDOW_TOKENS])) for first in cuts]
        if len(found) >= N_POOL:
            break
    return found[:N_POOL]


def latents(n: int) -> list[harness.Latent]:
    """Latents with windows from the pool, each with the next one as its `other`."""
    generator = np.random.default_rng(0)
    texts = pool()

    def window(place: int, is_active: bool) -> harness.LatentWindow:
        document, tokens = texts[place]
        activations = (generator.random(len(tokens)) < 0.1) * is_active
        activations[0] = is_active
        sample = "random" if is_active else "silent"
        return harness.LatentWindow(document, tokens, tuple(activations.astype(float).tolist()), is_active, sample)

    explainer, found = harness.create("explainer", "token_statistics"), []
    for index in range(n):
        places = generator.permutation(len(texts))[:N_WINDOWS].reshape(2, -1)
        halves = [tuple(window(int(place), i % 2 == 0) for i, place in enumerate(half)) for half in places]
        latent = harness.Latent(index, 1, 0.0, *halves)
        found.append(dataclasses.replace(latent, explanation=explainer.reduce(latent, [], [])))
    return [dataclasses.replace(one, other=other) for one, other in itertools.pairwise([*found, found[0]])]


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--latents", type=int, default=1000)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    made = latents(arguments.latents)
    embedder, table = Embedder(harness.create("model", "packaged", name="minilm-l6")), Table(arguments)
    for name in SCORERS:
        started = time.perf_counter()
        scorer = harness.create("scorer", name)
        plans = [scorer.plan(latent) for latent in made]
        embedder.read(text for plan in plans for request in plan for text in request.texts)
        for latent, plan in zip(made, plans, strict=True):
            scorer.reduce(latent, plan, [embedder.embed(request.texts) for request in plan])
        work = f"{len(made)} latents of {N_WINDOWS} windows from {N_POOL}, scored"
        table.add(work, (name, time.perf_counter() - started))


if __name__ == "__main__":
    main()
