"""Embedding retrieval: does a text made from some active windows find the others?

The explanation is written by rule and not by a language model (see `explanations`): a lower bound of what a good
explanation would reach, and the same for everyone who runs it.
"""

from __future__ import annotations

import harness
from plugins.scorers.explanations import explanation
from plugins.scorers.retrieval import Retrieval


class EmbeddingRetrieval(Retrieval):
    """The explanation is made of n-grams and contexts."""

    def explanation(self, latent: harness.Latent) -> str:
        """What is written from the explain windows."""
        return explanation(latent)
