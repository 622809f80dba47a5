"""The explanations that a scorer is given of a latent, and of the one that controls it."""

from __future__ import annotations

import harness


def explanation(latent: harness.Latent) -> str:
    """Raises Undefined where there is none."""
    if latent.explanation is None:
        raise harness.Undefined("the latent has no explanation")
    return latent.explanation


def explanations(latent: harness.Latent) -> list[str]:
    """The latent's own and, if there is one, the random one; raises Undefined where its own is missing."""
    random = latent.random_explanation
    return [explanation(latent), *([] if random is None else [random])]
