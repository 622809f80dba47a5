"""Adapters, such as LoRA, that change a model's weights: applied by the package peft, or refused.

A folder may hold an adapter beside the weights that it belongs to, or alone; its config then names the base.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils.peft_utils import find_adapter_config_file

from harness import ConfigError
from harness.plugins.models import HFConfig
from harness.plugins.models.parameter_counts import ADAPTER_WEIGHTS
from harness.plugins.models.planning import ADAPTER_CONFIG, find_base, find_local


def find_adapter(config: HFConfig) -> Path | None:
    """The folder of a checkpoint that has an adapter; None for others.

    Raises:
        ConfigError: it has one that can't be applied here.
    """
    path = find_local(config.path)
    if path is None:
        if not config.path.endswith(".gguf") and find_adapter_config_file(config.path, revision=config.revision):
            raise ConfigError(
                f"model hf: {config.path!r} has an adapter. On the hub alone its base is not pinned: download it, and "
                "give the folder."
            )
        return None
    if not (path / ADAPTER_CONFIG).is_file():
        return None
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(
            f"model hf: {path} has an adapter ({ADAPTER_CONFIG}), which takes the package peft. Run: pip install peft. "
            "Or give the weights with the adapter merged into them."
        )
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise ConfigError(f"model hf: {path} has an adapter without {ADAPTER_WEIGHTS}. Save it as safetensors.")
    if config.device_map is not None:
        raise ConfigError(f"model hf: {path} has an adapter, which device_map can't place. Merge it into the weights.")
    return path


@contextmanager
def base_of(config: HFConfig) -> Iterator[HFConfig]:
    """The checkpoint that an adapter belongs to, without the adapter."""
    base = find_base(config)
    if base is not None:
        yield base
        return
    with tempfile.TemporaryDirectory() as alone:
        for path in Path(config.path).expanduser().iterdir():
            if not path.name.startswith("adapter_"):
                (Path(alone) / path.name).symlink_to(path.resolve())
        yield dataclasses.replace(config, path=alone)


def apply(folder: Path, model: Any) -> None:
    """Put the adapter into the model, all of it."""
    try:
        info = model.load_adapter(str(folder))
    except Exception as error:  # peft raises almost anything where an adapter and a model don't go together
        raise ConfigError(
            f"model hf: can't apply the adapter of {folder} to a {type(model).__name__}. Give the base that it was "
            f"trained on, or the weights with the adapter merged into them.\n{error}"
        ) from error
    stray = sorted({*info.missing_keys, *info.unexpected_keys})
    if stray:
        raise ConfigError(
            f"model hf: the adapter of {folder} does not fit a {type(model).__name__}: {', '.join(stray[:5])}. Give "
            "the base that it was trained on."
        )
