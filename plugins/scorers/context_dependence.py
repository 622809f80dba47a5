"""Context dependence: is a latent still active on its token when the text around it is gone?

The scramble test of EleutherAI's "Open source automated interpretability for sparse autoencoder features" (2024), which
asks for unigram features: the strongest token of each active test window is put at a random place but the first among
19 random tokens, and the model reads that. They are drawn from the silent test windows; a hash of the latent's index,
its sign and the window's text decides.

    active_out_of_context: the share of these contexts in which the latent is active (above its threshold) on the token.
        1: the token alone decides, and a list of tokens explains the latent; 0: it is its context that decides. Neither
        is better.
    active_out_of_context_random_token: the same with another random token in the token's place, which is what chance
        gives. Were the latent as active there as elsewhere, it would be at most 1 %: chance is stated as 0.

Texts are cut into tokens anew: contexts in which the token does not come out as the token that it was are not counted,
in `n` neither.

The verdict on an active test window is whether the latent, active in it, still is on its token out of it; the score is
how active, which the window's own activations are to be compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import harness
from harness.plugins.scorers.choice_fuzzing import MARKS

N_RANDOM_TOKENS = 19
MIN_CONTEXTS = 5


@dataclass(frozen=True)
class _Context:
    """A context for a token: the random tokens around it."""

    before: str
    token: str
    after: str

    @property
    def text(self) -> str:
        return self.before + self.token + self.after

    @property
    def marked(self) -> str:
        return self.before + self.token.join(MARKS) + self.after


class ContextDependence:
    """Asks the model whose activations are decomposed."""

    metric = "active_out_of_context"
    chance = 0.0

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[harness.Activate]:
        """Requests for activations on the contexts with the token, and with a random token."""
        found = _contexts(latent)
        if len(found) < MIN_CONTEXTS:
            raise harness.Undefined(f"{len(found)} active test windows with silent ones, fewer than {MIN_CONTEXTS}")
        _, *pairs = zip(*found, strict=True)
        return [harness.Activate(tuple(context.text for context in contexts)) for contexts in pairs]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Activate], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The share, and its control."""
        windows, contexts, others = zip(*_contexts(latent), strict=True)
        found, control = map(_activations, (contexts, others), responses)
        told = zip(windows, contexts, found, strict=True)
        verdicts = [_verdict(window, context, own, latent.threshold) for window, context, own in told]
        return [
            replace(_share(self.metric, found, latent.threshold), verdicts=verdicts),
            _share(f"{self.metric}_random_token", control, latent.threshold),
        ]


def _contexts(latent: harness.Latent) -> list[tuple[harness.LatentWindow, _Context, _Context]]:
    """Put the token of each active test window in a random context, and a random token in the same context."""
    pool = [token for window in latent.test if not window.is_active for token in window.tokens if token]
    found = []
    for window in latent.test:
        token = window.peak_token if window.is_active else ""
        if not token or not pool:  # a token without a text is a part of a character
            continue
        digest = hashlib.sha256(f"{latent.index}/{latent.sign}/{window.text}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        *drawn, random = (pool[place] for place in generator.integers(len(pool), size=N_RANDOM_TOKENS + 1))
        place = int(generator.integers(1, N_RANDOM_TOKENS + 1))
        before, after = "".join(drawn[:place]), "".join(drawn[place:])
        found.append((window, _Context(before, token, after), _Context(before, random, after)))
    return found


def _activations(contexts: Sequence[_Context], responses: Sequence[harness.Activated]) -> list[float | None]:
    """The latent's activation on the token of each context; None if the model cuts the text there otherwise."""
    found = []
    for context, response in zip(contexts, responses, strict=True):
        ends = np.cumsum([len(token) for token in response.tokens]).tolist()
        starts = [0, *ends[:-1]]
        spans = dict(zip(zip(starts, ends, strict=True), response.activations, strict=True))
        span = len(context.before), len(context.before) + len(context.token)
        found.append(spans.get(span))
    return found


def _share(metric: str, found: Sequence[float | None], threshold: float) -> harness.TableRow:
    are_active = [activation > threshold for activation in found if activation is not None]
    if not are_active:
        return harness.TableRow(metric, None, 0, None, "in no context does the token come out as the one that it was")
    return harness.TableRow(metric, sum(are_active) / len(are_active), len(are_active))


def _verdict(
    window: harness.LatentWindow, context: _Context, activation: float | None, threshold: float
) -> harness.Verdict:
    if activation is None:
        reason = "the token does not come out as the one that it was"
        return harness.Verdict(window, True, None, shown=context.marked, reason=reason)
    return harness.Verdict(window, True, activation > threshold, activation, context.marked)
