"""Readers of the JSON of OpenAI's completions and embeddings, which raise one of UNREADABLE where they can't."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import harness

UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


def settled(reason: str) -> harness.Failure:
    """A failure for good: the endpoint has replied, and asked again it would reply the same."""
    return harness.Failure(reason, transient=False)


def read(found: Any, of_answer: Callable[[Any], Any], within: str = "choices") -> Any:
    """The response in an endpoint's JSON, with its numbers of tokens if told; a Failure where it can't be read."""
    try:
        n = len(found[within])
        response = of_answer(found[within][0]) if n == 1 else settled(f"{n} answers instead of one")
    except UNREADABLE as error:
        response = settled(f"the answer lacks what was asked for ({type(error).__name__}: {error})")
    try:
        n_prompt, n_answer = found["usage"]["prompt_tokens"], found["usage"].get("completion_tokens", 0)
    except UNREADABLE:
        return response
    is_told = all(isinstance(n, int) and n >= 0 for n in (n_prompt, n_answer))
    return harness.Metered(response, n_prompt, n_answer) if is_told else response


def choices(request: harness.Choose, answer: Any) -> tuple[float, ...] | harness.Failure:
    """The log-probabilities of the choices among those of the first token."""
    top = [
        (token["token"].strip(), _finite(token["logprob"]))
        for token in answer["logprobs"]["content"][0]["top_logprobs"]
    ]
    found = []
    for choice in request.choices:
        spelt = sum(math.exp(logprob) for text, logprob in top if text == choice)
        if not spelt:
            return settled(f"{choice!r} is none of the {len(top)} likeliest tokens")
        found.append(math.log(spelt))
    return tuple(found)


def text(answer: Any) -> str:
    """The text of a chat answer."""
    content = answer["message"]["content"]
    if not isinstance(content, str):
        raise ValueError("no text")
    return content


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
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
