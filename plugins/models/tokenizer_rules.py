"""The rules by which a checkpoint's own `tokenizer.json` cuts texts, which some classes of transformers overrule."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedTokenizerFast

_FILE = "tokenizer.json"
_PROBE = "In 2023 the DON'T-fox's café (naïve?) paid  3,650.75 €\r\n\n\tfor 北京 x_y=Z!! 😀"
_PER_CALL = ("padding", "truncation")
"""Set anew by every call."""


def rules(tokenizer: Any) -> dict[str, Any] | None:
    """The rules by which a fast tokenizer cuts texts; None of another one."""
    if not tokenizer.is_fast:
        return None
    found = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in found.items() if key not in _PER_CALL}


def as_stated(tokenizer: Any, path: str, folder: Path | None, revision: str) -> Any:
    """The tokenizer of a checkpoint, by the rules of its own file; a warning says where that gives other tokens.

    Some classes (Qwen2's among them) build rules of their own, and take from the file only vocabulary and merges.

    Args:
        tokenizer: the one that transformers chose.
        path: the folder or hub id that it was loaded from.
        folder: the folder; None for a hub id.
        revision: of a hub id.
    """
    has_file = (folder / _FILE).is_file() if folder else isinstance(_cached(path, revision), str)
    if not has_file or type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    stated = PreTrainedTokenizerFast.from_pretrained(path, revision=revision)
    if rules(tokenizer) == rules(stated):
        return tokenizer
    if tokenizer(_PROBE)["input_ids"] != stated(_PROBE)["input_ids"]:
        warnings.warn(
            f"{path}: {type(tokenizer).__name__} cuts texts otherwise than {_FILE}, which is beside the weights and is "
            "followed here. If the class is right, save its tokenizer there.",
            stacklevel=2,
        )
    return stated


def _cached(path: str, revision: str) -> Any:
    """The place of the file that the hub gave a moment ago."""
    return try_to_load_from_cache(path, _FILE, revision=revision)
