"""Token statistics: an explanation written by rule, without a language model.

The 8 n-grams that predict the latent's activation best (see `plugins/scorers/ngrams.py`), and the words around its 10
strongest activations. A lower bound of what a good explanation would reach, and the same for everyone who runs it.

What to write was chosen by the mean AUROC of `embedding_retrieval` with all-MiniLM-L6-v2, on latents planted on
Wikipedia (tokens, bigrams, topics) and on those of an SAE, PCA and ITDA of SmolLM2:

    =========================  ======  =======  ======  ====  ====  =====
    explanation                 token   bigram   topic   SAE   PCA   ITDA
    =========================  ======  =======  ======  ====  ====  =====
    8 n-grams                     .89      .62     .72   .62   .58    .53
    10 contexts                   .90      .67     .84   .65   .62    .54
    8 n-grams and 10 contexts     .91      .69     .84   .66   .63    .54
    20 contexts                   .90      .69     .83   .62   .62    .51
    16 words (log odds)           .83      .59     .75   .60   .54    .49
    =========================  ======  =======  ======  ====  ====  =====

Even the mean embedding of the active windows, which is no text, finds only topics better (.88).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness
from harness.plugins.scorers.ngrams import NGrams

N_NGRAMS = 8
N_CONTEXTS = 10
CONTEXT_TOKENS = 5
"""Number of tokens shown on each side of a window's strongest token."""


class TokenStatistics:
    """Explains a latent from its explain windows, without asking a judge."""

    def __init__(self, config: object) -> None:
        """Take no parameters."""

    def plan(self, latent: harness.Latent) -> list[Any]:
        """Return no requests: the windows suffice."""
        return []

    def reduce(self, latent: harness.Latent, requests: Sequence[Any], responses: Sequence[Any]) -> str:
        """The n-grams that predict the latent best, and the contexts of its strongest activations."""
        active = sorted((w for w in latent.explain if w.is_active), key=lambda w: max(w.activations), reverse=True)
        if not active:
            raise harness.Undefined("there is no active explain window")
        best = NGrams(latent.explain).best(N_NGRAMS)
        ngrams = dict.fromkeys("".join(ngram).strip() for ngram in best)
        return f"{', '.join(ngrams)}: {' ... '.join(_context(window) for window in active[:N_CONTEXTS])}"


def _context(window: harness.LatentWindow) -> str:
    """The text around the window's strongest token."""
    peak = window.activations.index(max(window.activations))
    return "".join(window.tokens[max(0, peak - CONTEXT_TOKENS) : peak + CONTEXT_TOKENS + 1]).strip()
