"""Explanations of a latent as a text, written from its explain windows by rule and without a language model."""

from __future__ import annotations

import harness
from plugins.scorers.ngrams import NGrams

N_NGRAMS = 8
N_CONTEXTS = 10
CONTEXT_TOKENS = 5
"""On each side of a window's strongest token."""


def explanation(latent: harness.Latent) -> str:
    """The n-grams that predict the latent best, and the contexts of its strongest activations."""
    best = NGrams(latent.explain).best(N_NGRAMS)
    ngrams = dict.fromkeys("".join(ngram).strip() for ngram in best)
    active = sorted((w for w in latent.explain if w.is_active), key=lambda w: max(w.activations), reverse=True)
    return f"{', '.join(ngrams)}: {' ... '.join(_context(window) for window in active[:N_CONTEXTS])}"


def _context(window: harness.LatentWindow) -> str:
    """The text around the window's strongest token."""
    peak = window.activations.index(max(window.activations))
    return "".join(window.tokens[max(0, peak - CONTEXT_TOKENS) : peak + CONTEXT_TOKENS + 1]).strip()
