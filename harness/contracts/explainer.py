"""Explainers: they say in words what one pole of a latent stands for.

An explainer is a plugin of kind `explainer`, and as pure as a scorer: `plan` says what it wants to know, `reduce` makes
a text of the answers. It is shown the explain half of a latent's windows only, so nothing of what scorers are tested on
can get into an explanation. What it says is kept, and is the same for every scorer that needs explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from harness.contracts.latent import Latent
from harness.contracts.requests import Request


class Explainer(Protocol):
    """Explains one pole of a latent. Pure: asks by `plan`, writes by `reduce`.

    Both may raise `Undefined`: this latent then has no explanation, as where a judge's answer is a `Failure` or can't
    be read. An apology must not pass for an explanation.
    """

    def plan(self, latent: Latent) -> Sequence[Request]:
        """List the requests about one latent; none if it needs no answers."""
        ...

    def reduce(self, latent: Latent, requests: Sequence[Any], responses: Sequence[Any]) -> str:
        """Write the explanation, from one response to each of the requests that `plan` gave."""
        ...


@runtime_checkable
class HasMaxCharacters(Protocol):
    """An explainer whose texts are cut: a bound on costs where judges may write much before they answer."""

    @property
    def max_characters(self) -> int:
        """A length that no explanation exceeds."""
        ...


def to_explain(latent: Latent) -> Latent:
    """The part of a latent that an explainer may see: no test windows, no other latent and no explanation."""
    return replace(latent, test=(), near_test=(), other=None, explanation=None)
