"""A judge behind any endpoint that speaks OpenAI's chat completions: a vendor's, vLLM, llama.cpp, Ollama.

choose: one token is asked for, with the log-probabilities of the 20 likeliest; a choice has the sum of the
probabilities of those that spell it, spaces aside. Where a choice is none of them, or longer than a token, the response
is a `Failure`: its probability is not known.
generate: at temperature 0, which few endpoints make quite repeatable.

A request that was turned away for the time being (408, 409, 429, 5xx) or got no whole answer is made again, after as
long as the endpoint asks for (`Retry-After`) or 1, 2, 4 ... seconds, and is a `Failure` after the last attempt. After
ten failures in a row the rest is not sent. The key is read from the environment when the judge is made and stands in
no error.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import harness
from plugins.judges import OpenAIHTTPConfig

TOP = 20
MAX_FAILURES = 10
_LONGEST_WAIT_SECONDS = 60.0


class OpenAIHTTP:
    """Asks several things at once."""

    def __init__(self, config: OpenAIHTTPConfig) -> None:
        self._config = config
        self._key = os.environ.get(config.key_variable, "") if config.key_variable else ""
        if config.key_variable and not self._key:
            raise harness.ConfigError(
                f"judge openai_http: ${config.key_variable} is not set. Put the key there; or set key_variable=null."
            )
        try:
            import httpx
        except ImportError:
            raise harness.ConfigError("judge openai_http needs httpx: pip install 'decomp-harness[judge]'.") from None
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(headers=headers, timeout=config.timeout_seconds)
        self._failed_in_a_row = 0
        self._last_reason = ""
        self._lock = threading.Lock()

    def choose(self, requests: Sequence[harness.Choose]) -> Iterator[tuple[float, ...] | harness.Failure]:
        """The log-probabilities of the choices as the answer's first token."""
        asked = {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
        return self._all(requests, lambda request: self._ask(request, asked, lambda found: _choices(request, found)))

    def generate(self, requests: Sequence[harness.Generate]) -> Iterator[str | harness.Failure]:
        """The answers."""
        return self._all(
            requests, lambda request: self._ask(request, {"max_tokens": request.max_tokens}, lambda found: _text(found))
        )

    def _all(self, requests: Sequence[Any], ask: Callable[[Any], Any]) -> Iterator[Any]:
        """In order, each as soon as it and those before it are there; no more are on their way than may be."""
        with ThreadPoolExecutor(self._config.n_at_once) as pool:
            waiting: list[Future[Any]] = []
            for request in requests:
                waiting.append(pool.submit(ask, request))
                if len(waiting) >= self._config.n_at_once:
                    yield waiting.pop(0).result()
            yield from (future.result() for future in waiting)

    def _ask(self, request: Any, options: dict[str, Any], read: Callable[[Any], Any]) -> Any:
        if self._failed_in_a_row >= MAX_FAILURES:
            return harness.Failure(
                f"not sent: {MAX_FAILURES} before it failed in a row, the last by {self._last_reason}"
            )
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        body = {"model": self._config.model, "messages": messages, "temperature": 0, **options}
        found = self._post(body)
        with self._lock:
            if isinstance(found, harness.Failure):
                self._failed_in_a_row += 1
                self._last_reason = found.reason
            else:
                self._failed_in_a_row = 0
        if not isinstance(found, harness.Failure):
            try:
                found = read(found["choices"][0])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                found = harness.Failure(f"the answer lacks what was asked for ({type(error).__name__}: {error})")
        return found

    def _post(self, body: dict[str, Any]) -> Any:
        """The answer's JSON."""
        reason = ""
        for attempt in range(self._config.attempts):
            if attempt:
                time.sleep(min(wait, _LONGEST_WAIT_SECONDS))
            wait = self._config.wait_seconds * 2**attempt
            try:
                response = self._client.post(f"{self._config.base_url.rstrip('/')}/chat/completions", json=body)
                if response.is_success:
                    return response.json()
            except (OSError, ValueError, self._errors) as error:  # no connection, a stall, an answer cut short
                reason = self._hide(f"{type(error).__name__}: {error}")
                continue
            reason = self._hide(f"HTTP {response.status_code}: {response.text[:200]}")
            if response.status_code not in (408, 409, 429) and response.status_code < 500:
                break
            wait = _seconds(response.headers.get("Retry-After"), wait)
        return harness.Failure(reason)

    @property
    def _errors(self) -> type[Exception]:
        import httpx

        return httpx.HTTPError

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "[hidden]") if self._key else text


def _seconds(header: str | None, otherwise: float) -> float:
    """`Retry-After` where it is a number of seconds."""
    try:
        found = float(header or "")
    except ValueError:  # a date
        return otherwise
    return found if math.isfinite(found) and found >= 0 else otherwise


def _choices(request: harness.Choose, answer: Any) -> tuple[float, ...] | harness.Failure:
    """The log-probabilities of the choices among those of the first token."""
    top = answer["logprobs"]["content"][0]["top_logprobs"]
    found = []
    for choice in request.choices:
        spelt = [math.exp(float(token["logprob"])) for token in top if token["token"].strip() == choice]
        if not sum(spelt):
            return harness.Failure(f"{choice!r} is none of the {len(top)} likeliest tokens")
        found.append(math.log(sum(spelt)))
    return tuple(found)


def _text(answer: Any) -> str:
    content = answer["message"]["content"]
    if not isinstance(content, str):
        raise ValueError("no text")
    return content
