"""Embedding retrieval: does the explanation of a latent, made from some active windows, find the others?"""

from __future__ import annotations

import harness
from harness.plugins.scorers.explanations import explanation
from harness.plugins.scorers.retrieval import Retrieval


class EmbeddingRetrieval(Retrieval):
    """Scores a latent by the explanation that an explainer gave."""

    def explanation(self, latent: harness.Latent) -> str:
        """The explanation of the latent."""
        return explanation(latent)

    def random_explanation(self, other: harness.Latent) -> str | None:
        """The explanation of another latent, if it has one."""
        return other.explanation
