"""Judges: language models that are asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from harness.contracts.requests import Choose, EmbedText, Failure, Generate, Likelihood


class Judge(Protocol):
    """A judge that provides everything. Any response may be `Metered`."""

    def choose(self, requests: Sequence[Choose]) -> Iterable[tuple[float, ...] | Failure]:
        """For each request the natural log-probabilities of its choices."""
        ...

    def generate(self, requests: Sequence[Generate]) -> Iterable[str | Failure]:
        """For each request a text."""
        ...

    def likelihood(self, requests: Sequence[Likelihood]) -> Iterable[tuple[float, int] | Failure]:
        """For each request the log-probability of its text and the number of tokens in it."""
        ...

    def embed(self, requests: Sequence[EmbedText]) -> Iterable[tuple[float, ...] | Failure]:
        """For each request the embedding of its text, of any norm but zero and of as many numbers for each text."""
        ...
