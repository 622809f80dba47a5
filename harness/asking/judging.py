"""Judges: language models that scorers ask, and how they are asked, each thing once.

A judge is a plugin of kind `judge`. Its Spec's `provides` names the methods that it has, among `choose`, `generate`,
`likelihood` and `embed`; each takes requests of its kind and gives the responses in their order, as a list, or one
after another as they come (a generator): what has come by then outlives an interruption. What it can't answer gets a
`Failure`. What is answered must not depend on what else is asked. A judge that knows what an answer took gives
`Metered` answers; prices are the parameters that `spending.PRICES` names. What it has to tell the user it says by a
RuntimeWarning.
"""

from __future__ import annotations

import math
import time
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from harness.asking.response_cache import ResponseCache
from harness.contracts.judge import Judge, methods_of
from harness.contracts.requests import Choose, EmbedText, Failure, Generate, Likelihood, prompt_of
from harness.contracts.spending import FREE, NOTHING, JudgeRequest, Metered, Prices, Usage, at_most, taken
from harness.errors import BudgetReached, PluginError
from harness.planning.suite import UNLIMITED, JudgeBudget
from harness.registry.isolation import isolated
from harness.storage.records import cost

_REPORT_EVERY = 16
_SECONDS_PER_LOOK = 0.2
"""Time between looks at what others have set aside of a budget."""
_METHODS = {Choose: "choose", Generate: "generate", Likelihood: "likelihood", EmbedText: "embed"}


class Judging:
    """Asks a judge what is not known yet.

    Args:
        make: makes the judge; called when something has to be asked.
        cache: what was answered before.
        progress: told (what, how many are answered, of how many).
        warn: told what the user should know.
        prices: what its tokens cost.
        budget: how much the suite of the cache may spend.
    """

    def __init__(
        self,
        make: Callable[[], Judge],
        cache: ResponseCache,
        progress: Callable[[str, int, int], None] | None = None,
        warn: Callable[[str], None] = print,
        prices: Prices = FREE,
        budget: JudgeBudget = UNLIMITED,
    ) -> None:
        self.usage = NOTHING
        """Requests sent so far, and the tokens that they took; answers that were known take nothing."""
        self.cell: str | None = None
        """The key of the cell that asks."""
        self._make = make
        self._cache = cache
        self._progress = progress
        self._warn = warn
        self._prices = prices
        self._budget = budget
        self._known: dict[JudgeRequest, Any] = {}
        """Embeddings are arrays: as tuples they would take four times the memory."""
        self._expected = NOTHING

    @cached_property
    def _judge(self) -> Judge:
        return self._make()

    def ask(self, requests: Sequence[JudgeRequest]) -> None:
        """Get the responses to all requests; those that were answered before, or refused for good, are not sent again.

        Raises:
            PluginError: the judge can't be asked this, has answered amiss, or nothing at all for reasons that may pass.
            BudgetReached: some were not sent.
        """
        new = self._unanswered(requests)
        for kind, method in _METHODS.items():
            if own := [request for request in new if type(request) is kind]:
                self._ask(method, sorted(own, key=_like_beside_like))
        self._check_any_answered(requests, new)

    def response(self, request: JudgeRequest) -> Any:
        """The response to a request; asks it, if it was not asked before."""
        if request not in self._known:
            self.ask([request])
        known = self._known[request]
        return tuple(known) if isinstance(known, array) else known

    def taken(self) -> tuple[Usage, float | None]:
        """Usage of the requests that the cell was the first to send, in all runs, and its price, if it is known."""
        assert self.cell is not None, "set by who asks"
        return self._cache.ledger.of_cell(self.cell)

    def _check_any_answered(self, requests: Sequence[JudgeRequest], new: Sequence[JudgeRequest]) -> None:
        """Raise a PluginError if the judge answered nothing for reasons that may pass: it can't be reached."""
        if new and all(_may_pass(self._known[request]) for request in requests):
            why = self._known[new[0]].reason
            raise PluginError(
                f"the judge answered none of {len(new)} requests: {why}. What it answered before is kept: run again "
                "once it can be reached."
            )

    def _unanswered(self, requests: Iterable[JudgeRequest]) -> list[JudgeRequest]:
        new = []
        for request in dict.fromkeys(requests):
            if request not in self._known or _may_pass(self._known[request]):
                found = self._cache.find(request)
                if found is None:
                    new.append(request)
                else:
                    self._remember(request, tuple(found) if isinstance(found, list) else found)
        if self._cache.n_damaged:
            self._warn(f"{self._cache.n_damaged} stored answers of the judge are damaged: they are asked for again.")
            self._cache.n_damaged = 0
        return new

    def _remember(self, request: JudgeRequest, response: Any) -> None:
        is_embedding = isinstance(request, EmbedText) and not isinstance(response, Failure)
        self._known[request] = array("d", response) if is_embedding else response

    def _ask(self, method: str, requests: Sequence[Any]) -> None:
        ask = methods_of(self._judge).get(method)
        if ask is None:
            raise PluginError(
                f"{type(self._judge).__name__} has no method {method}(), which the scorer's requests need."
            )
        where = f"{type(self._judge).__name__}.{method}()"
        n_answered = 0
        while n_answered < len(requests):
            part = requests[n_answered : n_answered + self._reserve(requests[n_answered:])]
            with isolated(), self._warnings(), self._reserved():
                answers = iter(ask(part))
                for request in part:
                    self._keep(request, next(answers, None), where)
                    n_answered += 1
                    if self._progress and n_answered % _REPORT_EVERY == 0:
                        self._progress("answers of the judge", n_answered, len(requests))

    def _keep(self, request: Any, answer: Any, where: str) -> None:
        response = answer.response if isinstance(answer, Metered) else answer
        _check(request, response, where)
        usage = taken(request, answer)
        usd = self._prices.usd(usage)
        self.usage += usage
        self._expected += at_most(request) if usage.n_requests else NOTHING
        self._remember(request, response)

        def keep() -> None:
            if _may_pass(response):
                self._cache.charge(request, usage, usd, self.cell)
            else:
                self._cache.keep(request, response, usage, usd, self.cell)
            if self._budget != UNLIMITED:
                self._cache.reservations.lower(*self._at_worst(request))

        self._cache.at_once(keep)

    def _reserve(self, requests: Sequence[Any]) -> int:
        """Set aside what the next requests take at worst; return how many they are.

        Where others have set aside what is left, wait until they know what they have spent.
        """
        if self._budget == UNLIMITED:
            return len(requests)
        while not (n := self._cache.at_once(lambda: self._reserved_now(requests))):
            time.sleep(_SECONDS_PER_LOOK)
        return n

    def _reserved_now(self, requests: Sequence[Any]) -> int:
        """The number of requests that could be set aside for, while nobody else decides; 0 if others have all."""
        spent, spent_usd = self._cache.ledger.spent(self._budget)
        self._check_budget(spent, spent_usd, len(requests))
        held, held_usd = self._cache.reservations.of_others()
        if self._budget.is_reached(spent.n_tokens + held, spent_usd + held_usd):
            return 0
        n = self._n_affordable(requests, spent.n_tokens + held, spent_usd + held_usd)
        self._set_aside(requests[:n])
        return n

    def _set_aside(self, requests: Sequence[Any]) -> None:
        worst = [self._at_worst(request) for request in requests]
        n_tokens, usd = (sum(each) for each in zip(*worst, strict=True))
        if not self.usage.n_requests:  # nothing is known of what requests take: all that is left, for this one
            n_tokens, usd = self._budget.tokens or 0.0, self._budget.usd or 0.0
        self._cache.reservations.set_aside(n_tokens, usd)

    def _n_affordable(self, requests: Sequence[Any], n_tokens: float, usd: float) -> int:
        """The number of requests that stay within the budget at worst, beside what is spent; one, if it is not reached.

        By how much requests exceed the expected is learnt from those before, so the first is sent alone.
        """
        requests = requests[: max(1, self.usage.n_requests)]
        for n, request in enumerate(requests):
            most, most_usd = self._at_worst(request)
            n_tokens, usd = n_tokens + most, usd + most_usd
            if self._budget.is_reached(n_tokens, usd):
                return max(n, 1)
        return len(requests)

    def _at_worst(self, request: Any) -> tuple[float, float]:
        """Tokens and US dollars that a request takes at worst, by what those before took."""
        factor = max(1.0, self.usage.n_tokens / max(1, self._expected.n_tokens))
        most = at_most(request)
        return factor * most.n_tokens, factor * (self._prices.usd(most) or 0.0)

    @contextmanager
    def _reserved(self) -> Iterator[None]:
        """Give back at the end what was set aside and not spent."""
        try:
            yield
        finally:
            if self._budget != UNLIMITED:
                self._cache.reservations.release()

    def _check_budget(self, spent: Usage, usd: float, n_left: int) -> None:
        if self._budget.is_reached(spent.n_tokens, usd):
            estimated = f", {spent.n_estimated:,} of them estimated from their characters" if spent.n_estimated else ""
            raise BudgetReached(
                f"judge_budget is spent: {spent.n_requests:,} requests of this suite took {spent.n_tokens:,} tokens"
                f"{estimated}, ${usd:,.2f}. {n_left:,} requests were not sent. What was answered is kept: run again "
                "with a higher judge_budget."
            )

    @contextmanager
    def _warnings(self) -> Iterator[None]:
        """Pass on the judge's warnings as they come, each once: some say what is waited for."""
        told: set[str] = set()

        def tell(message: Warning | str, *_: Any, **__: Any) -> None:
            if str(message) not in told:
                told.add(str(message))
                self._warn(str(message))

        with warnings.catch_warnings():
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = tell
            yield


def usage_rows(name: str, usage: Usage, usd: float | None) -> list[dict[str, Any]]:
    """Cost rows for the requests that a cell was the first to send."""
    estimated = f"{usage.n_estimated} of {usage.n_requests} requests estimated from their characters"
    return [
        cost(f"judge_requests_{name}", usage.n_requests, usage.n_requests),
        *(
            cost(f"judge_{part}_tokens_{name}", n_tokens, usage.n_requests, estimated if usage.n_estimated else None)
            for part, n_tokens in {"prompt": usage.n_prompt_tokens, "answer": usage.n_answer_tokens}.items()
        ),
        cost(f"judge_usd_{name}", usd, usage.n_requests, "unknown price" if usd is None else None),
    ]


def _may_pass(response: Any) -> bool:
    return isinstance(response, Failure) and response.transient


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
        fits = isinstance(response, tuple) and all(map(_is_finite, response)) and _fits(request, len(response))
    if not fits:
        raise PluginError(
            f"{where} answered {type(request).__name__} with {response!r:.80}. Give a text to Generate, finite numbers "
            "to the others (see harness.Choose, harness.Likelihood and harness.EmbedText), or harness.Failure(reason)."
        )


def _fits(request: Choose | Likelihood | EmbedText, n: int) -> bool:
    """True where a response to the request has `n` numbers."""
    if isinstance(request, EmbedText):
        return n > 0
    return n == (len(request.choices) if isinstance(request, Choose) else 2)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
