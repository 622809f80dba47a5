"""Embedding retrieval: does the explanation of a latent, made from some active windows, find the others?"""

from __future__ import annotations

import harness
from harness.plugins.scorers.explanations import explanation
from harness.plugins.scorers.retrieval import Retrieval


class EmbeddingRetrieval(Retrieval):
    """The explanation is an explainer's."""

    def explanation(self, latent: harness.Latent) -> str:
        """What is said of the explain windows."""
        return explanation(latent)

    def random_explanation(self, other: harness.Latent) -> str | None:
        """What is said of those of another latent."""
        return other.explanation
