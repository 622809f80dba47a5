"""Specs of the built-in judges. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass
class LocalConfig:
    """A causal language model of transformers, run here.

    `path` is a hub id, a folder or a GGUF file; null is SmolLM2-135M-Instruct from an installed package. Give a commit
    as `revision` of a hub id: without it the hub may change the weights, and stored answers can't notice.
    """

    path: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"


SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="judge",
        name="local",
        version=1,
        summary="a causal language model of transformers, run here: SmolLM2-135M-Instruct if no other is named",
        config=LocalConfig,
        factory="plugins.judges.local:Local",
        identity="plugins.judges.identity:of_local",
        provides=("choose", "generate", "likelihood"),
    ),
]
