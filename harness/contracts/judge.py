"""Judges: language models that are asked.

A judge has one ability at least: `choose`, `generate`, `likelihood` or `embed`. Its Spec's `provides` names those it
has. Each takes requests of its kind and gives one answer to each, in their order, as a list or one after another as
they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from harness.contracts.requests import Choose, EmbedText, Failure, Generate, Likelihood
from harness.contracts.spending import Metered


@runtime_checkable
class ChoosingJudge(Protocol):
    """A judge that can say how likely it would give each of several answers."""

    def choose(self, requests: Sequence[Choose]) -> Iterable[tuple[float, ...] | Failure | Metered]:
        """Give the natural log-probabilities of the choices of each request."""
        ...


@runtime_checkable
class GeneratingJudge(Protocol):
    """A judge that can write."""

    def generate(self, requests: Sequence[Generate]) -> Iterable[str | Failure | Metered]:
        """Give a text for each request."""
        ...


@runtime_checkable
class LikelihoodJudge(Protocol):
    """A judge that can say how likely a given text is."""

    def likelihood(self, requests: Sequence[Likelihood]) -> Iterable[tuple[float, int] | Failure | Metered]:
        """Give the log-probability of the text of each request, and the number of tokens in it."""
        ...


@runtime_checkable
class EmbeddingJudge(Protocol):
    """A judge that can be a suite's encoder."""

    def embed(self, requests: Sequence[EmbedText]) -> Iterable[tuple[float, ...] | Failure | Metered]:
        """Give the embedding of the text of each request, of any norm but zero, all of as many numbers."""
        ...


Judge: TypeAlias = ChoosingJudge | GeneratingJudge | LikelihoodJudge | EmbeddingJudge
"""A model that can be asked in one of these ways at least."""

Ask: TypeAlias = Callable[[Sequence[Any]], Iterable[Any]]
"""A method of a judge: requests of one kind in, one answer to each out."""


def methods_of(judge: object) -> dict[str, Ask]:
    """The methods by which a judge can be asked, by their names."""
    found: dict[str, Ask] = {}
    if isinstance(judge, ChoosingJudge):
        found["choose"] = judge.choose
    if isinstance(judge, GeneratingJudge):
        found["generate"] = judge.generate
    if isinstance(judge, LikelihoodJudge):
        found["likelihood"] = judge.likelihood
    if isinstance(judge, EmbeddingJudge):
        found["embed"] = judge.embed
    return found
