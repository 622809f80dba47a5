"""What explainers are asked: to say in words what one pole of a latent stands for.

An explainer is a plugin of kind `explainer`, and as pure as a scorer: `plan` says what it wants to know, `reduce` makes
a text of the answers. It is shown the explain half of a latent's windows only, so nothing of what scorers are tested on
can get into an explanation. What it says is kept, and is the same for every scorer that needs explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from harness.contracts.latent import Latent
from harness.contracts.requests import Request


class Explainer(Protocol):
    """Explains one pole of a latent. Pure: asks by `plan`, writes by `reduce`.

    Both may raise `Undefined`: this latent then has no explanation, as where a judge's answer is a `Failure` or can't
    be read. An apology must not pass for an explanation.

    It may have `max_characters`, a number that what it says is never longer than; the costs of a plan are bounded by
    it where judges may write much before they answer.
    """

    def plan(self, latent: Latent) -> list[Request]:
        """What to ask; nothing if it asks nobody."""
        ...

    def reduce(self, latent: Latent, requests: list[Request], responses: Sequence[Any]) -> str:
        """The explanation."""
        ...


def to_explain(latent: Latent) -> Latent:
    """What an explainer gets to see of a latent."""
    return replace(latent, test=(), near_test=(), other=None, explanation=None)
