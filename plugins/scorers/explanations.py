"""The explanation of a latent that a scorer is given."""

from __future__ import annotations

import harness


def explanation(latent: harness.Latent) -> str:
    """Raises Undefined where there is none."""
    if latent.explanation is None:
        raise harness.Undefined("the latent has no explanation")
    return latent.explanation
