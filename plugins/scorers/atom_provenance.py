"""Atom provenance: is an atom active where the text is like the text that it was taken from?

For decompositions whose latents are stored activations (ITDA, Leask et al. 2025, arXiv 2505.17769), a latent's
explanation is its source text: it costs nothing, and was fixed before any window was looked at. What the negative pole
of an atom stands for, the source does not say.
"""

from __future__ import annotations

import harness
from harness.plugins.scorers.retrieval import Retrieval


class AtomProvenance(Retrieval):
    """Scores a latent by an explanation that is the source text of its atom."""

    def explanation(self, latent: harness.Latent) -> str:
        """The text around the token that the atom was taken from."""
        if latent.sign < 0:
            raise harness.Undefined("the source of an atom says nothing of its negative pole")
        if latent.source is None:
            raise harness.Undefined("the atom has no source text")
        return latent.source

    def random_explanation(self, other: harness.Latent) -> str | None:
        """The source of another atom, whichever pole of it is at hand."""
        return other.source
