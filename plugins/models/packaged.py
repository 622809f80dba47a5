"""Models from installed packages. A GGUF file is converted once into a folder under the cache."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from harness import cache_folder, file_digest
from plugins.models import HFConfig, PackagedConfig
from plugins.models.hf import HF
from plugins.models.packages import PACKAGES


def load(config: PackagedConfig) -> HF:
    """The packaged model, read as any other."""
    path = PACKAGES[config.name].find_weights()
    if path.suffix == ".gguf":
        path = _converted(config.name, path)
    return HF(HFConfig(str(path), dtype=config.dtype, device=config.device))


def _converted(name: str, file: Path) -> Path:
    """The folder made from a GGUF file, head and tokenizer included; made first if it is not there."""
    folder = cache_folder() / "models" / f"{name}-{file_digest(file)[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
            try:
                _convert(file, partial)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return folder


def _convert(file: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The weights are dense now: without this the folder would say that they are packed.
    model.config.quantization_config = None
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
