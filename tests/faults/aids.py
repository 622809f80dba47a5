"""A plugin file of the campaigns: a judge that answers by hash, so that every stage has work and needs no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import harness


@dataclass
class Config:
    salt: str = ""


@harness.hookimpl
def harness_specs() -> list[Any]:
    return [harness.Spec("judge", "scripted", 1, "answers by hash", Scripted, Config, provides=("choose", "generate"))]


class Scripted:
    def __init__(self, config: Config) -> None:
        self._salt = config.salt

    def choose(self, requests: Any) -> Iterator[tuple[float, ...]]:
        for asked in requests:
            yield tuple(-0.1 - 3 * self._draw(asked.system, asked.user, choice) for choice in asked.choices)

    def generate(self, requests: Any) -> Iterator[str]:
        for asked in requests:
            yield f"it is about {self._draw(asked.system, asked.user):.6f}"

    def _draw(self, *words: str) -> float:
        return int.from_bytes(hashlib.sha256("|".join((self._salt, *words)).encode()).digest()[:6], "big") / 2**48
