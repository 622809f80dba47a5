"""Models from installed packages. A GGUF file is converted once into a folder under the cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from harness import file_digest, made_once
from harness.plugins.models import HFConfig, PackagedConfig, hf
from harness.plugins.models.packages import PACKAGES


def load(config: PackagedConfig) -> hf.HF:
    """The packaged model, read as any other."""
    folder = str(find_folder(config.name))
    return hf.load(HFConfig(folder, dtype=config.dtype, device=config.device, weights_seed=config.weights_seed))


def find_folder(name: str) -> Path:
    """The folder of a packaged model's checkpoint, converted if need be."""
    weights = PACKAGES[name].find_weights()
    if weights.suffix != ".gguf":
        return weights
    return made_once(f"{name}-{file_digest(weights)[:16]}", partial(_convert, weights))


def _convert(file: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The weights are dense now: without this the folder would say that they are packed.
    model.config.quantization_config = None
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
