"""An HTTP endpoint that answers in JSON: several requests at once, each tried again while that may help."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import harness
from harness.plugins.judges import OpenAIHTTPConfig
from harness.plugins.judges.exchange import Client, Reply, TooMuch

MAX_FAILURES = 10
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 300.0
"""Longest pause that is made because the endpoint asks for it; after a longer one the next run asks again."""
_SECONDS_BEFORE_WORDS = 10.0
"""Time that a request may take before the user is told what it waits for."""
_SECONDS_BETWEEN_WORDS = 60.0
_PASSING = (408, 409, 429)
_ABOUT_THE_REQUEST = (400, 413, 422)
_MIN_SECRET = 12
"""Length of the shortest key that is hidden in answers too: servers that need none are given words such as `none`."""
_MAX_REASON = 200


class Refusal(harness.Failure):
    """A refusal, which would be the same if the request were sent again at once. Only one that is about the request
    itself is final; key, model and address may be set right.
    """


@dataclass(frozen=True)
class _Passing(harness.Failure):
    """A failure that may have passed when the request is sent again."""

    wait_seconds: float | None = None
    """Pause that the endpoint asks for, if it does."""


class Endpoint:
    """The address that a judge's requests go to. The key is hidden in every text that comes from here."""

    def __init__(self, config: OpenAIHTTPConfig) -> None:
        self._config = config
        self._key = os.environ.get(config.key_variable, "") if config.key_variable else ""
        if config.key_variable and not self._key:
            raise harness.ConfigError(
                f"judge openai_http: ${config.key_variable} is not set. Put the key there; or set key_variable=null."
            )
        try:
            import httpx
            import tenacity
        except ImportError as error:
            raise harness.ConfigError(
                f"judge openai_http needs {error.name}: pip install 'decomp-harness[judge]'."
            ) from None
        if not (self._key.isascii() and self._key.isprintable()):
            raise harness.ConfigError(
                f"judge openai_http: ${config.key_variable} has characters that no key has, such as a line break. "
                "Put the key alone there."
            )
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._errors = (httpx.HTTPError, httpx.InvalidURL)
        self._client = Client(headers, config.timeout_seconds)
        growing = tenacity.wait_exponential(config.wait_seconds)
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda found: isinstance(found, _Passing)),
            stop=lambda state: state.attempt_number >= config.attempts or _asks_too_much(state),
            wait=lambda state: _asked_for(state, min(growing(state), _LONGEST_WAIT_SECONDS)),
            before_sleep=self._say_waiting,
            retry_error_callback=_given_up,
        )
        self._said_at = -math.inf
        self._saying = threading.Lock()
        self._failed_in_a_row = 0
        self._last = harness.Failure("")
        """The last of the failures in a row."""
        self._taken: dict[str, dict[str, Any]] = {}
        """The first request that the endpoint has answered, by path: it serves as a trial later."""
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"{self._config.base_url} ({self._config.model})"

    def all(self, requests: Sequence[Any], ask: Callable[[Any], Any]) -> Iterator[Any]:
        """Yield the responses in the order of the requests, at most `n_at_once` of which are under way."""
        with ThreadPoolExecutor(self._config.n_at_once) as pool:
            waiting: list[Future[Any]] = []
            for request in requests:
                waiting.append(pool.submit(ask, request))
                if len(waiting) >= self._config.n_at_once:
                    yield waiting.pop(0).result()
            yield from (future.result() for future in waiting)

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON, or a Failure; nothing is sent after too many of these in a row."""
        if self._is_down(path):
            return harness.Failure(
                f"not sent: {MAX_FAILURES} requests before it failed in a row, the last with {self._last.reason}"
            )
        found = self.post(path, body)
        with self._lock:
            if isinstance(found, harness.Failure):
                self._failed_in_a_row += 1
                self._last = found
            else:
                self._failed_in_a_row = 0
        return found

    def _is_down(self, path: str) -> bool:
        """True if too many failed in a row. Refusals may be due to what those requests say, so the first request that
        the endpoint has answered is then sent again, and decides.
        """
        with self._lock:
            if self._failed_in_a_row >= MAX_FAILURES and not self._last.transient and path in self._taken:
                found = self.post(path, self._taken[path])
                if isinstance(found, harness.Failure):
                    self._last = harness.Failure(found.reason)
                else:
                    self._failed_in_a_row = 0
            return self._failed_in_a_row >= MAX_FAILURES

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON, or a Failure after the last attempt."""
        found = self._retrying(self._post_once, path, {"model": self._config.model, **body})
        if not isinstance(found, harness.Failure):
            self._taken.setdefault(path, body)
        return found

    def _post_once(self, path: str, body: dict[str, Any]) -> Any:
        try:
            reply = self._client.post(f"{self._config.base_url.rstrip('/')}/{path}", body)
            if 200 <= reply.status < 300:
                return self._answer(reply)
        except TooMuch as error:
            return harness.Failure(str(error))
        except (OSError, ValueError, zlib.error, RecursionError, *self._errors) as error:
            # No connection, a stall, an answer cut short or none that JSON has.
            return _Passing(self._hide(f"{type(error).__name__}: {error}".removesuffix(": "))[:_MAX_REASON])
        reason = f"HTTP {reply.status}: {self._hide(reply.content.decode(errors='replace'))[:_MAX_REASON]}"
        if 300 <= reply.status < 400:
            where = self._hide(reply.headers.get("Location", ""))[:_MAX_REASON]
            reason = f"HTTP {reply.status}: it points to {where!r}, and is not followed; set base_url"
        if reply.status not in _PASSING and reply.status < 500:
            return Refusal(reason, transient=reply.status not in _ABOUT_THE_REQUEST)
        return _Passing(reason, wait_seconds=_seconds(reply.headers.get("Retry-After", "")))

    def _answer(self, reply: Reply) -> Any:
        """The answer's JSON, without the key."""
        found = json.loads(reply.content)
        if len(self._key) < _MIN_SECRET:
            return found
        text = json.dumps(found, ensure_ascii=False)
        return json.loads(self._hide(text)) if self._key in text else found

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "[hidden]") if self._key else text

    def _say_waiting(self, state: Any) -> None:
        """Tell the user what a request waits for, and how long, where it takes a while; not of each of many."""
        wait = state.next_action.sleep
        with self._saying:
            now = time.monotonic()
            is_news = now - self._said_at >= _SECONDS_BETWEEN_WORDS
            if not is_news or state.seconds_since_start + wait < _SECONDS_BEFORE_WORDS:
                return
            self._said_at = now
        warnings.warn(
            f"judge openai_http: {self}: {state.outcome.result().reason}. Asked again in {wait:.0f} s, for the "
            f"{state.attempt_number + 1}. of {self._config.attempts} times.",
            RuntimeWarning,
            stacklevel=2,
        )


def _given_up(state: Any) -> harness.Failure:
    """The last failure of those that might have passed."""
    found = state.outcome.result()
    longer = f". It asks to wait {found.wait_seconds / 3600:,.1f} hours" if _asks_too_much(state) else ""
    return harness.Failure(f"{found.reason}{longer}")


def _asks_too_much(state: Any) -> bool:
    return (state.outcome.result().wait_seconds or 0) > _LONGEST_ASKED_SECONDS


def _asked_for(state: Any, otherwise: float) -> float:
    seconds: float | None = state.outcome.result().wait_seconds
    return otherwise if seconds is None else seconds


def _seconds(retry_after: str) -> float | None:
    """`Retry-After`, which is a number of seconds or a date."""
    try:
        found = float(retry_after)
    except ValueError:
        try:
            found = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # neither; or a date without a zone
            return None
    return max(0.0, found) if math.isfinite(found) else None
