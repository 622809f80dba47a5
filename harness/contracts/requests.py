"""Requests that scorers and explainers may make, and the responses to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # `harness plan` asks scorers what they would ask, and does without torch
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Embed:
    """Asks for the sentence embedding of each text; the response is `[n, e]`, of unit norm, in float64."""

    texts: tuple[str, ...]
    """The n texts."""


@dataclass(frozen=True)
class EmbedText:
    """Asks a judge that is the suite's encoder for the embedding of one text of an `Embed`; the response is a tuple of
    finite numbers, at least one and as many for each text. It may be a `Failure`. Scorers ask `Embed`.
    """

    text: str
    """The text."""


@dataclass(frozen=True)
class Choose:
    """Asks a judge how likely it would answer with each choice; the response is a tuple of their natural
    log-probabilities as the continuation, which need not add up to 1. It may be `Bounded`, or a `Failure`.

    Judges may compute once what `user` has before its last blank line, for all requests that begin alike: put there
    what many share.
    """

    system: str
    """The instruction that comes first."""
    user: str
    """The question."""
    choices: tuple[str, ...]
    """The answers to choose from, such as `("Yes", "No")`."""


class Bounded(tuple[float, ...]):
    """A response to `Choose` of which some log-probabilities are only the most that they can be, as where a judge lists
    just the likeliest tokens. A tuple like any other to a scorer; tables say what share of the answers are such.
    """

    at_most: tuple[int, ...]
    """The places of the choices whose log-probabilities are bounds."""

    def __new__(cls, log_probabilities: Iterable[float], at_most: Iterable[int] = ()) -> Bounded:
        response = super().__new__(cls, log_probabilities)
        response.at_most = tuple(at_most)
        return response


@dataclass(frozen=True)
class Generate:
    """Asks a judge for its likeliest answer, of up to `max_tokens`; the response is a text, or a `Failure`."""

    system: str
    """The instruction that comes first."""
    user: str
    """The question."""
    max_tokens: int
    """The most tokens of an answer."""
    schema: str | None = None
    """A JSON schema, as text, that the answer should follow. Not every judge can be held to one: say in the prompt what
    is wanted, and parse the answer."""


@dataclass(frozen=True)
class Likelihood:
    """Asks a judge how likely a text is after a context; the response is (the sum of the natural log-probabilities of
    the text's tokens, their number), or a `Failure`.
    """

    context: str
    """The text before."""
    text: str
    """The text whose likelihood is asked for."""


@dataclass(frozen=True)
class Failure:
    """The response to a request that a judge could not answer. It stands for no value: a scorer leaves out what it
    was to tell, and says what share was answered.
    """

    reason: str
    """The reason why there is no answer, for tables."""
    transient: bool = True
    """True if it may still be answered: the cell then stays to do, and the next run asks again. False for what is
    settled, such as a text that is refused or an answer that can't be read: kept like an answer, and never asked again.
    """


@dataclass(frozen=True)
class Activate:
    """Asks what the pole does on texts; the response is a list of `Activated`, one for each text."""

    texts: tuple[str, ...]
    """The texts to run the model on."""


@dataclass(frozen=True)
class Activated:
    """A text in the tokens of the model that is decomposed, and what the pole does on each of them."""

    tokens: tuple[str, ...]
    """Tokens that together spell the text."""
    activations: tuple[float, ...]
    """The activation on each token, 0 or more; 0 also where capture keeps no row, as for a window's first token, and on
    masked rows."""


@dataclass(frozen=True, eq=False)
class Steer:
    """Asks what the model says next if something is added to its activations on the prompt's last token, at the site of
    the decomposition; the response is `[r, v]`, the log-probabilities of the next token for each addition.
    """

    prompt: str
    """The text that the model goes on from."""
    additions: Float[Tensor, "r d"]
    """The r rows, each of which is added in a run of its own."""


@dataclass(frozen=True, eq=False)
class Unembed:
    """Asks which tokens directions promote most, by the logit lens; the response is a list of `Promoted`, one for each
    direction.
    """

    directions: Float[Tensor, "r d"]
    """The r directions of the residual stream."""
    n_tokens: int
    """The number t of tokens for each."""


@dataclass(frozen=True, eq=False)
class Promoted:
    """The tokens that a direction promotes, that of the largest logit first."""

    ids: Int[Tensor, " t"]
    """The ids of the tokens."""
    texts: tuple[str, ...]
    """The texts of the tokens, with the space before a word, as in windows."""
    unembedding: Float[Tensor, "t e"]
    """The rows of the model's head for these tokens."""


Request: TypeAlias = Embed | Choose | Generate | Likelihood | Activate | Steer | Unembed
"""Something that `plan` of a scorer or an explainer may ask."""


def prompt_of(request: Choose | Generate | Likelihood | EmbedText) -> str:
    """The whole text of a request, as a judge reads it."""
    if isinstance(request, EmbedText):
        return request.text
    if isinstance(request, Likelihood):
        return f"{request.context}\n\n{request.text}"
    return f"{request.system}\n\n{request.user}"
