"""A corpus that an evaluation names, beside that of the suite. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import harness


def corpus_identity(call: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a corpus, as content addresses have them, from its entry in a suite: `{corpus: NAME, ...}`."""
    name = call["corpus"]
    params = {key: value for key, value in call.items() if key != "corpus"}
    spec = next((spec for spec in harness.catalog("corpus") if spec.name == name), None)
    if spec is None:
        known = ", ".join(spec.name for spec in harness.catalog("corpus"))
        raise harness.ConfigError(f"change: unknown corpus {name!r}. There are {known}.")
    identity: Any = params
    if spec.identity is not None and spec.config is not None:
        asked = spec.identity
        if isinstance(asked, str):
            module, _, attribute = asked.partition(":")
            asked = getattr(importlib.import_module(module), attribute)
        identity = asked(spec.config(**params))
    return {"name": name, "version": spec.version, "parameters": identity}


def corpus_of(call: Mapping[str, Any]) -> harness.Corpus:
    """The corpus of such an entry."""
    made: harness.Corpus = harness.create(
        "corpus", call["corpus"], **{key: value for key, value in call.items() if key != "corpus"}
    )
    return made
