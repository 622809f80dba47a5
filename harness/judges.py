"""Judges: language models that scorers ask, and how they are asked, each thing once.

A judge is a plugin of kind `judge`. Its Spec's `provides` names the methods that it has, among `choose`, `generate` and
`likelihood`; each takes requests of its kind and gives the responses in their order, as a list, or one after another as
they come (a generator): what has come by then outlives an interruption. What it can't answer gets a `Failure`. What is
answered must not depend on what else is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol

from harness.errors import PluginError
from harness.isolation import isolated
from harness.response_cache import ResponseCache
from harness.scorers import Choose, Failure, Generate, Likelihood, Request, prompt_of

_REPORT_EVERY = 16


class Judge(Protocol):
    """A judge that provides everything."""

    def choose(self, requests: Sequence[Choose]) -> Iterable[tuple[float, ...] | Failure]:
        """For each request the natural log-probabilities of its choices."""
        ...

    def generate(self, requests: Sequence[Generate]) -> Iterable[str | Failure]:
        """For each request a text."""
        ...

    def likelihood(self, requests: Sequence[Likelihood]) -> Iterable[tuple[float, int] | Failure]:
        """For each request the log-probability of its text and the number of tokens in it."""
        ...


class Judging:
    """Asks a judge what is not known yet.

    Args:
        make: makes the judge; called when something has to be asked.
        cache: what was answered before.
        progress: told (what, how many are answered, of how many).
    """

    def __init__(
        self, make: Callable[[], Any], cache: ResponseCache, progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        self._make = make
        self._cache = cache
        self._progress = progress
        self._known: dict[Request, Any] = {}

    @cached_property
    def _judge(self) -> Any:
        return self._make()

    def ask(self, requests: Iterable[Request]) -> None:
        """Find out the responses to all of them; only what was never answered is asked.

        Raises:
            PluginError: the judge can't be asked this, has answered amiss, or answered nothing at all.
        """
        new = self._unanswered(requests)
        for kind, method in {Choose: "choose", Generate: "generate", Likelihood: "likelihood"}.items():
            if own := [request for request in new if type(request) is kind]:
                self._ask(method, sorted(own, key=_like_beside_like))
        failures = [self._known[request] for request in new if isinstance(self._known[request], Failure)]
        if failures and len(failures) == len(new):
            raise PluginError(
                f"the judge answered none of {len(new)} requests: {failures[0].reason}. What it answered before is "
                "kept: run again once it can be reached."
            )

    def response(self, request: Request) -> Any:
        """The response to a request; asks it, if it was not asked before."""
        if request not in self._known:
            self.ask([request])
        return self._known[request]

    def _unanswered(self, requests: Iterable[Request]) -> list[Request]:
        new = []
        for request in dict.fromkeys(requests):
            if request not in self._known or isinstance(self._known[request], Failure):  # that may pass
                found = self._cache.find(request)
                if found is None:
                    new.append(request)
                else:
                    self._known[request] = tuple(found) if isinstance(found, list) else found
        return new

    def _ask(self, method: str, requests: Sequence[Any]) -> None:
        ask = getattr(self._judge, method, None)
        if ask is None:
            raise PluginError(
                f"{type(self._judge).__name__} has no method {method}(), which the scorer's requests need."
            )
        with isolated():
            responses = iter(ask(requests))
            for number, request in enumerate(requests):
                response = next(responses, None)
                _check(request, response, f"{type(self._judge).__name__}.{method}()")
                self._known[request] = response
                if not isinstance(response, Failure):
                    self._cache.keep(request, response)
                if self._progress and (number + 1) % _REPORT_EVERY == 0:
                    self._progress("answers of the judge", number + 1, len(requests))


def _like_beside_like(request: Any) -> tuple[Any, ...]:
    """An order in which prompts that begin alike follow each other, and those of like length."""
    beginning, _, end = prompt_of(request).rpartition("\n\n")
    return beginning, len(end), end


def _check(request: Any, response: Any, where: str) -> None:
    """Raise a PluginError where a response is not what the request asks for."""
    if isinstance(response, Failure):
        return
    if isinstance(request, Generate):
        fits = isinstance(response, str)
    else:
        n = len(request.choices) if isinstance(request, Choose) else 2
        fits = isinstance(response, tuple) and len(response) == n and all(map(_is_finite, response))
    if not fits:
        raise PluginError(
            f"{where} answered {type(request).__name__} with {response!r:.80}. Give a text to Generate, finite numbers "
            "to the others (see harness.Choose and harness.Likelihood), or harness.Failure(reason)."
        )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
