"""Checkpoints of transformers: tokenizers, configs and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
)

from harness import ConfigError
from harness.plugins.models import HFConfig
from harness.plugins.models.placement import load_as_nan
from harness.plugins.models.planning import find_local
from harness.plugins.models.tokenizer_rules import as_stated

_WEIGHTLESS = (AutoConfig, AutoTokenizer)


_HUB_HINT = (
    " It is no local path, and the hub did not give it: check the id, and the connection or HF_HUB_OFFLINE, or give "
    "the path of a folder or GGUF file."
)


def find_device() -> str:
    """The device that `auto` stands for on this machine."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_tokenizer(config: HFConfig) -> Any:
    """The tokenizer of a checkpoint that has one."""
    tokenizer = load_checkpoint(AutoTokenizer, config)
    folder = find_local(config.path)
    files = {"tokenizer.json", "tokenizer_config.json", *tokenizer.vocab_files_names.values()}
    # Where a folder has none of them, transformers makes up an empty tokenizer.
    if folder is not None and folder.is_dir() and not any((folder / name).exists() for name in files):
        raise ConfigError(f"model hf: {folder} has no tokenizer. Save it there: tokenizer.save_pretrained(folder).")
    if config.path.endswith(".gguf"):
        return tokenizer
    return as_stated(tokenizer, config.path if folder is None else str(folder), folder, config.revision or "main")


def load_module(auto_class: Any, config: HFConfig, placement: dict[str, Any]) -> tuple[PreTrainedModel, list[str]]:
    """The model, or its encoder; and the weights that the checkpoint lacks, which are NaN, never random."""
    options = {"dtype": getattr(torch, config.dtype), "use_safetensors": True, "output_loading_info": True}
    model, info = load_checkpoint(auto_class, config, **options, **placement)
    missing = sorted(info["missing_keys"])
    weights = model.state_dict()
    for name in missing:
        if weights[name].is_meta:
            load_as_nan(model.get_submodule(name.rpartition(".")[0]))
        else:
            weights[name].fill_(torch.nan)
    for part in (model.config, model.config.get_text_config()):  # of a multimodal model they are two
        part.use_cache = False
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return model.eval().requires_grad_(False), missing


def load_checkpoint(auto_class: Any, config: HFConfig, **options: Any) -> Any:
    """`from_pretrained` of a model, tokenizer or config, with errors that say what to do."""
    path = find_local(config.path)
    where = config.path if path is None else str(path)
    if where.endswith(".gguf"):
        # A file in a folder or in a repository of the hub; without dequantize its weights would stay packed.
        where, options["gguf_file"] = where.rsplit("/", 1) if "/" in where else (".", where)
        if auto_class not in _WEIGHTLESS:
            options["quantization_config"] = GgufConfig(dequantize=True)
    elif path is not None and auto_class not in _WEIGHTLESS:
        _check_weights(path)
    try:
        # Given none, transformers would not look for the safetensors that the hub makes of pickled weights.
        revision = config.revision or "main"
        return auto_class.from_pretrained(where, revision=revision, trust_remote_code=False, **options)
    except Exception as error:  # a damaged or foreign checkpoint makes transformers raise almost anything
        what = "the tokenizer" if auto_class is AutoTokenizer else "the model"
        hint = _HUB_HINT if path is None else ""
        raise ConfigError(f"model hf: can't load {what} of {config.path!r}.{hint}\n{error}") from error


def _check_weights(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        found = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        pickled = f" {', '.join(found)}: pickled weights can run code and are not read." if found else ""
        raise ConfigError(
            f"model hf: {folder} holds no *.safetensors.{pickled} Convert a model that you trust with "
            "model.save_pretrained(folder), which writes safetensors."
        )
