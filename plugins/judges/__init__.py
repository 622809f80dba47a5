"""Specs of the built-in judges. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import harness

MAX_AT_ONCE = 256
"""Most requests to an endpoint that are sent at the same time; each has a thread."""


@dataclass
class LocalConfig:
    """A causal language model of transformers, run on this machine."""

    path: str | None = None
    """A hub id, a folder or a GGUF file; null is SmolLM2-135M-Instruct from an installed package."""
    revision: str | None = None
    """Branch, tag or commit of a hub id. Give a commit: without it the hub may change the weights, and stored
    answers can't notice."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the model's weights and activations."""
    device: str = "auto"
    """Device that the model runs on; `auto` takes cuda, then mps, then cpu."""


@dataclass
class OpenAIHTTPConfig:
    """A model behind an endpoint that speaks OpenAI's chat completions; for `likelihood` also its completions, for
    `embed` its embeddings.
    """

    model: str
    """The model's name, as the endpoint calls it. It may change behind its name, which stored answers can't notice."""
    base_url: str = "https://api.openai.com/v1"
    """The endpoint's address, up to and without `/chat/completions`."""
    embedding_model: str | None = None
    """The model that is asked for embeddings, where `encoder: judge`; null is the same model. Only embeddings are
    kept under its name."""
    # What answers do not depend on is no part of the judge's name in tables.
    key_variable: str | None = field(default="OPENAI_API_KEY", repr=False)
    """Environment variable that holds the API key; null for an endpoint that needs none."""
    usd_per_million_prompt_tokens: float | None = field(default=None, repr=False)
    """Price of a million prompt tokens, embedded ones included; null if not known. No answer depends on it."""
    usd_per_million_answer_tokens: float | None = field(default=None, repr=False)
    """Price of a million tokens of answers; null if not known. No answer depends on it."""
    n_at_once: int = field(default=8, repr=False)
    """Number of requests that are sent at the same time."""
    timeout_seconds: float = field(default=60.0, repr=False)
    """Longest wait for a connection, or for the next piece of an answer, which as a whole may take five times that."""
    attempts: int = field(default=6, repr=False)
    """Number of times that each request is tried."""
    wait_seconds: float = field(default=1.0, repr=False)
    """Pause before the second attempt, doubled before each further one, unless the endpoint asks for another."""

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname or address.port == 0:
            raise ValueError("base_url is not a web address; give one such as http://localhost:8000/v1.")
        if "@" in address.netloc or address.query or address.fragment:
            raise ValueError(
                "base_url holds a user, a password, a query or a fragment; set key_variable to the environment "
                "variable that holds the key."
            )
        if not (1 <= self.n_at_once <= MAX_AT_ONCE and self.attempts >= 1):
            raise ValueError(
                f"n_at_once {self.n_at_once} must be from 1 to {MAX_AT_ONCE}, and attempts {self.attempts} at least 1."
            )
        if not (0 < self.timeout_seconds < math.inf and 0 <= self.wait_seconds < math.inf):
            raise ValueError(
                f"timeout_seconds {self.timeout_seconds} must be above 0, wait_seconds {self.wait_seconds} at least 0, "
                "and both finite."
            )
        prices = (self.usd_per_million_prompt_tokens, self.usd_per_million_answer_tokens)
        if not all(price is None or (price >= 0 and math.isfinite(price)) for price in prices):
            raise ValueError(f"usd_per_million_*_tokens {prices} must be at least 0, or null.")


@dataclass
class ReplayConfig:
    """A judge's earlier answers, read from a file: they give the same scores without the judge and without its key."""

    path: str
    """A recording: a copy of `judges/responses.sqlite` in the cache."""
    of: str | None = None
    """Judge whose answers are read, if the file has several: a part of its description, such as a model's name."""


SPECS: list[harness.JudgeSpec] = [
    harness.JudgeSpec(
        name="local",
        version=2,
        summary="a causal language model of transformers, run on this machine; SmolLM2-135M-Instruct by default",
        config=LocalConfig,
        factory="harness.plugins.judges.local:Local",
        identity="harness.plugins.judges.identity:of_local",
        provides=("choose", "generate", "likelihood"),
    ),
    harness.JudgeSpec(
        name="openai_http",
        version=1,
        summary="a model behind any endpoint that speaks OpenAI's chat completions; needs httpx and tenacity",
        config=OpenAIHTTPConfig,
        factory="harness.plugins.judges.openai_http:OpenAIHTTP",
        identity="harness.plugins.judges.identity:of_openai_http",
        provides=("choose", "generate", "likelihood", "embed"),
    ),
    harness.JudgeSpec(
        name="replay",
        version=1,
        summary="the recorded answers of another judge, from a file; a request that is not in it is an error",
        config=ReplayConfig,
        factory="harness.plugins.judges.replay:Replay",
        identity="harness.plugins.judges.identity:of_replay",
        provides=("choose", "generate", "likelihood", "embed"),
    ),
]
