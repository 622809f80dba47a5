"""A judge behind any endpoint that speaks OpenAI's API: a vendor's, vLLM, llama.cpp, Ollama.

choose: one token is asked for, with the log-probabilities of the 20 likeliest; a choice has the sum of the
probabilities of those that spell it, spaces and capitals aside. A choice that is none of them has the most that it can
have: it is no likelier than the 20th, nor than all that these leave of 1. So a judge that is sure says at least so, and
its answers are marked as `harness.Bounded`.
Where none of the choices is among them, or those that are not may outweigh those that are, the response is a `Failure`.
likelihood: the endpoint reads context and text as one prompt, of `/completions`, and gives it back with the
log-probability of each token (`echo`, which chat has not). The text's tokens are those that begin in it: one that
begins in the context counts for the context. Where one of them has no log-probability, as the first of a prompt, the
response is a `Failure`.
generate: at temperature 0, which few endpoints make quite repeatable. A schema goes along as `response_format`.
embed: `/embeddings` is asked for one text at a time, as many endpoints round a text otherwise beside others.

What is about to be used is tried first, by one short request for each of choose, generate, likelihood, embed and
schemas: an endpoint that can't do it, or a wrong key or model, is an error; one that takes no schemas is asked without.
Such trials are in no table of costs.

A request that was turned away for the time being (408, 409, 429, 5xx) or got no whole answer is made again, after as
long as the endpoint asks for (`Retry-After`) or 1, 2, 4 ... seconds, and is a `Failure` after the last attempt, which
may pass until the next run; so it is at once where the endpoint asks for more than five minutes, or the answer takes
too long or is too large (see `exchange`). Waiting for more than ten seconds is told. Redirects are not followed. One
that is refused for what it asks (400, 413, 422), and an answer that can't be read, is a `Failure` for good. After ten
failures in a row the rest is not sent; where they were refused for good, the trial is made again, and decides. The key
is read from the environment when the judge is made and stands in no error.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import harness
from harness.plugins.judges import OpenAIHTTPConfig, answers
from harness.plugins.judges.endpoint import Endpoint, Refusal

TOP = 20
CHAT, COMPLETIONS, EMBEDDINGS = "chat/completions", "completions", "embeddings"
_TRIALS = 2
"""Number of trials: one answer may lack what was asked for by accident."""
_CHOICE = harness.Choose("Answer Yes or No.", "Is water wet?", ("Yes", "No"))
_LIKELIHOOD = harness.Likelihood("The cat sat on", " the mat.")
_TEXT = harness.EmbedText("The cat sat on the mat.")
_SCHEMA = '{"type": "object", "properties": {"wet": {"type": "boolean"}}, "required": ["wet"]}'
_QUESTION = harness.Generate("Answer Yes or No.", "Is water wet?", 16)
_OBJECT = harness.Generate("Answer in JSON.", "Is water wet?", 16, _SCHEMA)


class OpenAIHTTP:
    """Sends requests to an endpoint, several at once, after a trial of each kind of request."""

    def __init__(self, config: OpenAIHTTPConfig) -> None:
        self._config = config
        self._endpoint = Endpoint(config)
        self._problems: dict[str, str] = {}
        """Why a capability that was tried can't be used, or an empty text, by its name."""
        self._n_echo_tokens = 0
        """Number of tokens to write after an echo: 0 for most endpoints, 1 for those that refuse to write none."""

    def choose(self, requests: Sequence[harness.Choose]) -> Iterator[Any]:
        """The log-probabilities of the choices as the answer's first token."""
        if requests:
            self._require("choose", self._try_choose)
        return self._endpoint.all(requests, self._choose)

    def likelihood(self, requests: Sequence[harness.Likelihood]) -> Iterator[Any]:
        """The log-probabilities of texts, and their numbers of tokens."""
        if requests:
            self._require("likelihood", self._try_likelihood)
        return self._endpoint.all(requests, self._likelihood)

    def generate(self, requests: Sequence[harness.Generate]) -> Iterator[Any]:
        """The answers."""
        if requests:
            n_tokens = max(request.max_tokens for request in requests)  # for a judge that thinks first less is an error
            if any(request.schema for request in requests):
                self._try_schema(n_tokens)
            self._require("generate", lambda: self._try_generate(n_tokens))
        return self._endpoint.all(requests, self._generate)

    def embed(self, requests: Sequence[harness.EmbedText]) -> Iterator[Any]:
        """The embeddings."""
        if requests:
            self._require("embed", self._try_embed)
        return self._endpoint.all(requests, self._embed)

    def _choose(self, request: harness.Choose) -> Any:
        found = self._endpoint.ask(CHAT, _choosing(request))
        return found if isinstance(found, harness.Failure) else answers.read(found, _chosen(request))

    def _likelihood(self, request: harness.Likelihood) -> Any:
        if not request.text:
            return 0.0, 0
        found = self._endpoint.ask(COMPLETIONS, _echo(request, self._n_echo_tokens))
        return found if isinstance(found, harness.Failure) else answers.read(found, _echoed(request))

    def _generate(self, request: harness.Generate) -> Any:
        takes_schema = not self._problems.get("schema")
        found = self._endpoint.ask(CHAT, _writing(request, takes_schema))
        return found if isinstance(found, harness.Failure) else answers.read(found, answers.text)

    def _embed(self, request: harness.EmbedText) -> Any:
        found = self._endpoint.ask(EMBEDDINGS, self._embedding(request))
        return found if isinstance(found, harness.Failure) else answers.read(found, answers.embedding, "data")

    def _embedding(self, request: harness.EmbedText) -> dict[str, Any]:
        return {"model": self._config.embedding_model or self._config.model, "input": request.text}

    def _require(self, capability: str, problem_of: Callable[[], str]) -> None:
        """Try once whether the endpoint has a capability; raise a PluginError if it has not."""
        if capability not in self._problems:
            self._problems[capability] = problem_of()
        if problem := self._problems[capability]:
            raise harness.PluginError(
                f"judge openai_http: {self._endpoint} can't be asked to {capability}: {problem}. Check base_url, key "
                "and model (or embedding_model); or take another judge, or scorers that ask for something else. "
                "Earlier answers are kept."
            )

    def _try_choose(self) -> str:
        for _ in range(_TRIALS):
            found = self._endpoint.post(CHAT, _choosing(_CHOICE))
            if isinstance(found, harness.Failure):
                return found.reason
            try:
                if found["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
                    return ""
            except answers.UNREADABLE:
                continue
        return "its answers lack `top_logprobs`"

    def _try_likelihood(self) -> str:
        problem = ""
        for self._n_echo_tokens in (0, 1):
            found = self._endpoint.post(COMPLETIONS, _echo(_LIKELIHOOD, self._n_echo_tokens))
            if not isinstance(found, harness.Failure):
                found = answers.read(found, _echoed(_LIKELIHOOD))
                found = found.response if isinstance(found, harness.Metered) else found
            if not isinstance(found, harness.Failure):
                return ""
            problem = f"no `echo` with `logprobs` from /{COMPLETIONS} ({found.reason})"
        return problem

    def _try_embed(self) -> str:
        problem = ""
        for _ in range(_TRIALS):
            found = self._endpoint.post(EMBEDDINGS, self._embedding(_TEXT))
            if isinstance(found, harness.Failure):
                return found.reason
            found = answers.read(found, answers.embedding, "data")
            found = found.response if isinstance(found, harness.Metered) else found
            if not isinstance(found, harness.Failure):
                return ""
            problem = f"no embedding from /{EMBEDDINGS} ({found.reason})"
        return problem

    def _try_generate(self, n_tokens: int) -> str:
        found = self._endpoint.post(CHAT, _writing(replace(_QUESTION, max_tokens=n_tokens), with_schema=False))
        return found.reason if isinstance(found, harness.Failure) else ""

    def _try_schema(self, n_tokens: int) -> None:
        if "schema" in self._problems:
            return
        found = self._endpoint.post(CHAT, _writing(replace(_OBJECT, max_tokens=n_tokens), with_schema=True))
        self._problems["schema"] = found.reason if isinstance(found, Refusal) else ""
        if not isinstance(found, harness.Failure):
            self._problems["generate"] = ""  # which needs no trial of its own
        if isinstance(found, Refusal):
            warnings.warn(
                f"judge openai_http: {self._endpoint} takes no `response_format` of a JSON schema ({found.reason}); it "
                "is asked without.",
                RuntimeWarning,
                stacklevel=2,
            )


def _chosen(request: harness.Choose) -> Callable[[Any], Any]:
    return lambda answer: answers.choices(request, answer)


def _echoed(request: harness.Likelihood) -> Callable[[Any], Any]:
    return lambda answer: answers.likelihood(request, answer)


def _choosing(request: harness.Choose) -> dict[str, Any]:
    return {**_likeliest(1), "messages": _messages(request), "logprobs": True, "top_logprobs": TOP}


def _writing(request: harness.Generate, with_schema: bool) -> dict[str, Any]:
    body: dict[str, Any] = {**_likeliest(request.max_tokens), "messages": _messages(request)}
    if request.schema and with_schema:
        schema = {"name": "answer", "schema": json.loads(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _echo(request: harness.Likelihood, n_tokens: int) -> dict[str, Any]:
    return {**_likeliest(n_tokens), "prompt": request.context + request.text, "echo": True, "logprobs": 1}


def _likeliest(n_tokens: int) -> dict[str, Any]:
    return {"temperature": 0, "max_tokens": n_tokens}


def _messages(request: harness.Choose | harness.Generate) -> list[dict[str, str]]:
    return [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
