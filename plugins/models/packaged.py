"""Models from installed packages. A GGUF file is converted once into a folder under the cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from harness import file_digest
from plugins.models import HFConfig, PackagedConfig
from plugins.models.cached import made_once
from plugins.models.hf import HF
from plugins.models.packages import PACKAGES


def load(config: PackagedConfig) -> HF:
    """The packaged model, read as any other."""
    weights = PACKAGES[config.name].find_weights()
    folder = weights
    if weights.suffix == ".gguf":
        folder = made_once(f"{config.name}-{file_digest(weights)[:16]}", partial(_convert, weights))
    return HF(HFConfig(str(folder), dtype=config.dtype, device=config.device))


def _convert(file: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The weights are dense now: without this the folder would say that they are packed.
    model.config.quantization_config = None
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
