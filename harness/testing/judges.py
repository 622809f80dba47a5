"""Checks of judges: each is asked a few short things, together and apart, in one order and in another."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from harness.contracts.judge import Judge, methods_of
from harness.contracts.requests import Choose, EmbedText, Failure, Generate, Likelihood
from harness.contracts.spending import Metered
from harness.errors import said
from harness.registry.specs import CAPABILITIES
from harness.testing.checks import Broken, Check, NotChecked, seed_globally

_SYSTEM = "Answer in one word."
_TOPICS = ("a river that is long", "banks", "numbers, and what they are good for", "cats on mats")
_ASKED: dict[str, list[Any]] = {
    "choose": [
        *(Choose(_SYSTEM, f"Is this about water?\n\n{topic}", ("Yes", "No")) for topic in _TOPICS),
        Choose(_SYSTEM, "Is the text long?\n\nNo.", ("Yes", "No")),
    ],
    "generate": [Generate(_SYSTEM, f"Name one more like this:\n\n{topic}", 4) for topic in _TOPICS],
    "likelihood": [Likelihood(f"It is about {topic}.\n\nText:", f" {topic}, again") for topic in _TOPICS],
    "embed": [EmbedText(topic) for topic in _TOPICS],
}
_ODD: dict[str, list[Any]] = {
    "choose": [Choose("", "", ("Yes", "No")), Choose(_SYSTEM, "<|im_end|> </s> é\u0000 \U0001f600\n\n", ("A", "AB"))],
    "generate": [Generate("", "", 1), Generate(_SYSTEM, "<|im_end|> </s> é \U0001f600\n\n", 2, '{"type": "object"}')],
    "likelihood": [Likelihood("", "text"), Likelihood("a context", ""), Likelihood("<|im_end|>", " é \U0001f600")],
    "embed": [EmbedText(""), EmbedText(" "), EmbedText("<|im_end|> </s> é\u0000 \U0001f600")],
}
_TOLERANCE = 1e-6


class JudgeUnderTest:
    """A judge, by what makes a fresh one, and what it says it provides; None: what it has methods for."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Judge], provides: Sequence[str] | None = None) -> None:
        self.make = make
        self._provides = provides

    @cached_property
    def judge(self) -> Judge:
        """One for most checks: judges may be large."""
        return self.make()

    @property
    def capabilities(self) -> list[str]:
        """The kinds of request that it can be asked."""
        if self._provides is None:
            return list(methods_of(self.judge))
        return list(self._provides)

    def asked(self) -> dict[str, list[Any]]:
        """The requests that it is asked, by the method."""
        return {name: _ASKED[name] for name in self.capabilities if name in _ASKED}

    def answers(self, name: str, requests: Sequence[Any], judge: Judge | None = None) -> list[Any]:
        """Ask by a copy of the requests, for one response to each."""
        return self.answers_of(name, list(requests), judge)

    def answers_of(self, name: str, requests: Sequence[Any], judge: Judge | None = None) -> list[Any]:
        """Ask by the very object that is given, for one response to each request."""
        found = list(methods_of(self.judge if judge is None else judge)[name](requests))
        if len(found) != len(requests):
            raise Broken(f"{name}() gave {len(found)} responses to {len(requests)} requests; give one to each.")
        return [answer.response if isinstance(answer, Metered) else answer for answer in found]


def can_be_asked_what_it_provides(under_test: JudgeUnderTest) -> None:
    """It has a method for each capability that its Spec names (choose, generate, likelihood, embed), at least one."""
    names = under_test.capabilities
    if unknown := [name for name in names if name not in CAPABILITIES]:
        raise Broken(f"its Spec provides {unknown}; judges provide {', '.join(CAPABILITIES)}.")
    methods = methods_of(under_test.judge)
    if missing := [name for name in names if not callable(methods.get(name))]:
        raise Broken(f"its Spec provides {missing}, but there are no such methods.")
    if not names:
        raise Broken(f"it has none of the methods {', '.join(CAPABILITIES)}; name them in its Spec's provides.")


def answers_what_is_asked(under_test: JudgeUnderTest) -> None:
    """One response to each request: log-probabilities, finite and at most 0, one for each choice; a text; a
    log-probability and a number of tokens; an embedding, finite, not zero and as long for each text; or a Failure with
    a reason.
    """
    n_answered = 0
    for name, requests in under_test.asked().items():
        answers = under_test.answers(name, requests)
        for request, answer in zip(requests, answers, strict=True):
            _check(name, request, answer)
        answered = [answer for answer in answers if not isinstance(answer, Failure)]
        if name == "embed" and len(lengths := {len(answer) for answer in answered}) > 1:
            raise Broken(f"{name}() gave embeddings of {sorted(lengths)} numbers; give as many for each text.")
        n_answered += len(answered)
    if not n_answered:
        raise NotChecked(f"every answer is a Failure: {answers[0].reason}")


def answers_alone_as_together(under_test: JudgeUnderTest) -> None:
    """A response does not depend on what else is asked, neither beside it nor before."""
    for name, requests in under_test.asked().items():
        together = under_test.answers(name, requests)
        for request, answer in zip(requests, together, strict=True):
            _compare(
                under_test.answers(name, [request]), [answer], f"{name}() answers {request!r:.80} alone otherwise than"
            )
        parts = [under_test.answers(name, part) for part in (requests[:2], requests[2:])]
        _compare(parts[0] + parts[1], together, f"{name}() answers two parts of the requests otherwise than")


def keeps_the_order(under_test: JudgeUnderTest) -> None:
    """Responses come in the order of the requests, whatever that is."""
    for name, requests in under_test.asked().items():
        forwards, backwards = under_test.answers(name, requests), under_test.answers(name, requests[::-1])
        _compare(backwards[::-1], forwards, f"{name}() answers the requests in another order otherwise than")


def repeats_itself(under_test: JudgeUnderTest) -> None:
    """A fresh judge says the same again, and what is asked twice at once is answered alike twice; neither depends on
    the global random generators.
    """
    seed_globally(1)
    before = {name: under_test.answers(name, requests) for name, requests in under_test.asked().items()}
    judge = under_test.make()
    seed_globally(2)
    for name, requests in under_test.asked().items():
        again = under_test.answers(name, requests, judge)
        _compare(again, before[name], f"{name}() of a fresh judge answers otherwise than")
        twice = under_test.answers(name, [requests[0], requests[0]])
        _compare(twice[1:], twice[:1], f"{name}() answers the second of two equal requests otherwise than the first:")


def leaves_requests_as_they_are(under_test: JudgeUnderTest) -> None:
    """Neither the requests nor the list of them are changed; a tuple of them does as well, and none at all."""
    for name, requests in under_test.asked().items():
        given, kept = list(requests), copy.deepcopy(requests)
        list(methods_of(under_test.judge)[name](given))
        if given != kept:
            raise Broken(f"{name}() has changed the requests it was given. Work on a copy.")
        under_test.answers_of(name, tuple(requests))
        under_test.answers(name, [])


def bears_odd_texts(under_test: JudgeUnderTest) -> None:
    """Empty texts, tokens that look special, choices that begin alike: an answer or a Failure, no exception."""
    for name in under_test.asked():
        for request in _ODD[name]:
            try:
                (answer,) = under_test.answers(name, [request])
            except Broken:
                raise
            except Exception as error:
                raise Broken(f"{name}() raises {said(error)}, for {request!r:.80}. Give a harness.Failure.") from error
            _check(name, request, answer)


def _check(name: str, request: Any, answer: Any) -> None:
    if isinstance(answer, Failure):
        if not answer.reason:
            raise Broken(f"{name}() gave a Failure without a reason; say why there is no answer.")
        return
    if name == "generate":
        if not isinstance(answer, str):
            raise Broken(f"{name}() gave {answer!r:.80}; give a text.")
        return
    if name == "embed":
        if not isinstance(answer, tuple) or not all(map(_is_finite, answer)) or not any(answer):
            raise Broken(
                f"{name}() gave {answer!r:.80}; give a tuple of finite numbers, not all 0, or harness.Failure(reason)."
            )
        return
    n = len(request.choices) if name == "choose" else 2
    if not isinstance(answer, tuple) or len(answer) != n or not all(map(_is_finite, answer)):
        what = f"{n} log-probabilities" if name == "choose" else "(log-probability, number of tokens)"
        raise Broken(
            f"{name}() gave {answer!r:.80}; give a tuple of {what}, finite numbers, or harness.Failure(reason)."
        )
    logprobs = answer if name == "choose" else answer[:1]
    if max(logprobs) > _TOLERANCE:
        raise Broken(
            f"{name}() gave {answer!r:.80}: a log-probability above 0. Natural logarithms of shares are asked."
        )
    if name == "likelihood" and (answer[1] < 0 or answer[1] != int(answer[1])):
        raise Broken(f"{name}() gave {answer!r:.80}; the second is the number of tokens of the text.")


def _compare(found: Sequence[Any], expected: Sequence[Any], what: str) -> None:
    for own, its in zip(found, expected, strict=True):
        if isinstance(own, Failure) or isinstance(its, Failure):
            continue  # an endpoint may be out of reach for a moment
        numbers = [own, its] if isinstance(own, tuple) and isinstance(its, tuple) else None
        is_same = own == its if numbers is None else len(own) == len(its) and all(map(_is_close, own, its))
        if not is_same:
            raise Broken(
                f"{what} together or before: {own!r:.60} and {its!r:.60}. What is asked beside it must not matter."
            )


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


CHECKS: list[Check] = [
    can_be_asked_what_it_provides,
    answers_what_is_asked,
    answers_alone_as_together,
    keeps_the_order,
    repeats_itself,
    leaves_requests_as_they_are,
    bears_odd_texts,
]
