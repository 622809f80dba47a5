"""Explanations that a scorer is given: a latent's own, and that of another latent as a control."""

from __future__ import annotations

import harness


def explanation(latent: harness.Latent) -> str:
    """The latent's explanation; raises Undefined if it has none."""
    if latent.explanation is None:
        raise harness.Undefined("the latent has no explanation")
    return latent.explanation


def explanations(latent: harness.Latent) -> list[str]:
    """The latent's own and, if there is one, the random one; raises Undefined where its own is missing."""
    random = latent.random_explanation
    return [explanation(latent), *([] if random is None else [random])]
