"""Readers of the JSON of OpenAI's completions and embeddings, which raise one of UNREADABLE where they can't."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import harness

_SPACES = " \t\n\r\u2581\u0120"
"""White space, and how vocabularies write a space."""
_IMPOSSIBLE = -700.0
"""Log-probability below which some endpoints write -9999 or so for 0."""
_ROUNDING = 1e-6
"""Rounding error of a sum of probabilities in float32."""
UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
_MAX_TOKENS = 10**9
"""Most tokens that a request may be told to have taken."""


def settled(reason: str) -> harness.Failure:
    """A failure for good: the endpoint has replied, and asked again it would reply the same."""
    return harness.Failure(reason, transient=False)


def read(found: Any, of_answer: Callable[[Any], Any], within: str = "choices") -> Any:
    """The response in an endpoint's JSON, with its numbers of tokens if told; a Failure where it can't be read."""
    try:
        n = len(found[within])
        response = of_answer(found[within][0]) if n == 1 else settled(f"{n} answers instead of one")
    except UNREADABLE as error:
        response = settled(f"the answer lacks what was asked for ({type(error).__name__}: {error!s:.200})")
    try:
        n_prompt, n_answer = found["usage"]["prompt_tokens"], found["usage"].get("completion_tokens", 0)
    except UNREADABLE:
        return response
    is_told = all(isinstance(n, int) and 0 <= n <= _MAX_TOKENS for n in (n_prompt, n_answer))
    return harness.Metered(response, n_prompt, n_answer) if is_told else response


def choices(request: harness.Choose, answer: Any) -> tuple[float, ...] | harness.Failure:
    """The log-probabilities of the choices as the first token, of which the likeliest are listed.

    A choice has the sum of the probabilities of the tokens that spell it, spaces aside, and capitals where these tell
    no two choices apart. One that is none of them is no likelier than the last of the list, nor than all that the list
    leaves of 1: the lesser of the two bounds is its log-probability, so that a difference to a listed choice comes out
    no larger than it is, and the answer is `Bounded`. A Failure where none is listed, or where those that aren't could
    together be likelier than those that are.
    """
    listed = [(token["token"], _log_probability(token["logprob"])) for token in _listed(answer)]
    plain = str.casefold if len(set(map(str.casefold, request.choices))) == len(request.choices) else str
    top = [(plain(token.strip(_SPACES)), logprob) for token, logprob in listed if logprob > _IMPOSSIBLE]
    spelt = [sum(math.exp(logprob) for token, logprob in top if token == plain(own)) for own in request.choices]
    missing = [choice for choice, p in zip(request.choices, spelt, strict=True) if not p]
    if not missing:
        return tuple(map(math.log, spelt))
    if len(missing) == len(spelt):
        return settled(f"none of {', '.join(map(repr, missing))} is among the {len(top)} likeliest tokens")
    left = max(0.0, 1 - math.fsum(math.exp(logprob) for _, logprob in top))
    most = min(math.exp(logprob) for _, logprob in top)
    if left > _ROUNDING:
        most = min(most, left)
        if min(left, len(missing) * most) > sum(spelt):
            return settled(
                f"{', '.join(map(repr, missing))} are not among the {len(top)} likeliest tokens, and may be likelier "
                f"than the choices that are, which have {sum(spelt):.2g} of the probability"
            )
    bounds = (place for place, p in enumerate(spelt) if not p)
    return harness.Bounded((math.log(p or most) for p in spelt), bounds)


def _listed(answer: Any) -> list[dict[str, Any]]:
    return list(answer["logprobs"]["content"][0]["top_logprobs"])


def _log_probability(value: Any) -> float:
    """A log-probability, which is -∞ for a token that can't come."""
    return -math.inf if value == -math.inf else _finite(value)


def text(answer: Any) -> str:
    """The text of a chat answer; of parts, which some answer in, those that are text and not what it thought."""
    content = answer["message"]["content"]
    if isinstance(content, list):
        texts = [part["text"] for part in content if part["type"] == "text"]
        content = "".join(texts) if texts else None
    if not isinstance(content, str):
        raise ValueError("no text")
    # Half a character, which JSON may spell, can be neither written to a file nor sent to a judge.
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def likelihood(request: harness.Likelihood, answer: Any) -> tuple[float, int] | harness.Failure:
    """The log-probability of the text's tokens, which are those that begin in it, in an echo of the whole prompt.

    A token that begins in the context and ends in the text is the context's: its probability is not the text's alone.
    """
    prompt = request.context + request.text
    if not answer["text"].startswith(prompt):
        return settled("the endpoint does not echo the prompt")
    tokens, logprobs, offsets = (answer["logprobs"][name] for name in ("tokens", "token_logprobs", "text_offset"))
    # Some count a token in front of the text, which marks its start, among its characters.
    ends = list(itertools.accumulate(map(len, tokens), initial=0))
    n_before = max("".join(tokens).find(prompt), 0) if offsets == ends[:-1] else 0
    begin, end = len(request.context) + n_before, len(prompt) + n_before
    own = [logprob for logprob, offset in zip(logprobs, offsets, strict=True) if begin <= offset < end]
    if not own:
        return settled("no token begins in the text")
    if None in own:
        return settled("a token has no log-probability; the first has none where there is no context")
    return math.fsum(map(_finite, own)), len(own)


def embedding(answer: Any) -> tuple[float, ...]:
    """The embedding's numbers, not scaled to any norm."""
    numbers = answer["embedding"]
    if not isinstance(numbers, list) or not numbers:
        raise ValueError("`embedding` is not a list of numbers")
    return tuple(map(_finite, numbers))


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.80} is not a finite number")
    return float(value)
