"""The tokens that asking a judge takes, what they cost, and how much may be spent. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contracts.requests import Choose, EmbedText, Failure, Generate, Likelihood, prompt_of

PRICES = ("usd_per_million_prompt_tokens", "usd_per_million_answer_tokens")
"""The parameters in which a judge that is paid for is told its prices; null: not known."""
_CHARACTERS_PER_TOKEN = 4
_MILLION = 1_000_000

JudgeRequest = Choose | Generate | Likelihood | EmbedText


@dataclass(frozen=True)
class Metered:
    """A response (or a `Failure`) with the tokens that it took, which a judge that knows them may give in its place."""

    response: Any
    """The response, or a `Failure`."""
    n_prompt_tokens: int
    """Tokens of the request."""
    n_answer_tokens: int
    """Tokens of the answer."""


@dataclass(frozen=True)
class Usage:
    """The number of requests, and the tokens that they took."""

    n_requests: int = 0
    n_prompt_tokens: int = 0
    n_answer_tokens: int = 0
    n_estimated: int = 0
    """Requests whose tokens the judge did not tell: four characters are taken for a token."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(own + its for own, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(own - its for own, its in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def n_tokens(self) -> int:
        return self.n_prompt_tokens + self.n_answer_tokens


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars per million tokens; None where they are not known."""

    prompt: float | None = 0.0
    answer: float | None = 0.0

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Prices:
        """The prices that a judge's parameters state. A judge without such parameters costs nothing."""
        return cls(*(params.get(name, 0.0) for name in PRICES))

    @property
    def are_known(self) -> bool:
        return self.prompt is not None and self.answer is not None

    def usd(self, usage: Usage) -> float | None:
        """The cost of what requests took; None where prices are not known."""
        if self.prompt is None or self.answer is None:
            return None
        return (usage.n_prompt_tokens * self.prompt + usage.n_answer_tokens * self.answer) / _MILLION


FREE = Prices()
NOTHING = Usage()


def at_most(request: JudgeRequest) -> Usage:
    """An estimate of what a request will take, made before it is sent: all tokens that its answer may have, and about
    those of its prompt.
    """
    if isinstance(request, Generate):
        n_answer_tokens = request.max_tokens
    else:
        n_answer_tokens = 0 if isinstance(request, EmbedText) else 1
    return Usage(1, _n_tokens(prompt_of(request)), n_answer_tokens, 1)


def taken(request: JudgeRequest, answer: Any) -> Usage:
    """The tokens that a judge's answer took. A `Failure` that is not metered took none."""
    if isinstance(answer, Metered):
        return Usage(1, answer.n_prompt_tokens, answer.n_answer_tokens)
    if isinstance(answer, Failure):
        return Usage()
    n_answer_tokens = _n_tokens(answer) if isinstance(answer, str) else 1 if isinstance(request, Choose) else 0
    return Usage(1, _n_tokens(prompt_of(request)), n_answer_tokens, 1)


def _n_tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)
