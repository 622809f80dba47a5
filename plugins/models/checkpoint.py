"""Checkpoints of transformers: tokenizers, configs and weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
)

from harness import ConfigError
from harness.plugins.models import HFConfig, adapters
from harness.plugins.models.placement import load_as_nan
from harness.plugins.models.planning import find_base, find_local
from harness.plugins.models.tokenizer_rules import as_stated

_WEIGHTLESS = (AutoConfig, AutoTokenizer)
_HEADS: tuple[tuple[Any, Any], ...] = (
    (MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM),
    (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoModelForImageTextToText),
    (MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoModelForMultimodalLM),
)

_HUB_HINT = (
    " It is no local path, and the hub did not give it: check the id, and the connection or HF_HUB_OFFLINE, or give "
    "the path of a folder or GGUF file."
)


def find_device(name: str = "auto") -> torch.device:
    """The device of this name; `auto` stands for the best one of this machine."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device {name!r} can't be used here. Give auto, or one that this machine has.\n{error}"
        ) from error


def load_tokenizer(config: HFConfig) -> Any:
    """The tokenizer of a checkpoint that has one, or of the base of an adapter that has none."""
    folder, base = find_local(config.path), find_base(config)
    if folder is not None and base is not None and not any(folder.glob("tokenizer*")):
        return load_tokenizer(base)
    tokenizer = load_checkpoint(AutoTokenizer, config)
    files = {"tokenizer.json", "tokenizer_config.json", *tokenizer.vocab_files_names.values()}
    # Where a folder has none of them, transformers makes up an empty tokenizer.
    if folder is not None and folder.is_dir() and not any((folder / name).exists() for name in files):
        raise ConfigError(f"model hf: {folder} has no tokenizer. Save it there: tokenizer.save_pretrained(folder).")
    if config.path.endswith(".gguf"):
        return tokenizer
    return as_stated(tokenizer, config.path if folder is None else str(folder), folder, config.revision or "main")


class Loaded(NamedTuple):
    """A model and how well its checkpoint fits it."""

    module: PreTrainedModel
    missing: list[str]
    """Names of weights that the checkpoint lacks; they are NaN, never random."""
    left_over: list[str]
    """Names of weights that the checkpoint has, and the model has no place for."""


def load_module(auto_class: Any, config: HFConfig, placement: dict[str, Any]) -> Loaded:
    """The model, or its encoder, with its adapter if there is one."""
    adapter = adapters.find_adapter(config)
    with nullcontext(config) if adapter is None else adapters.base_of(config) as base:
        model, missing, left_over = _load_weights(auto_class, base, placement)
    if adapter is not None:
        adapters.apply(adapter, model)
    for part in (model.config, model.config.get_text_config()):  # of a multimodal model they are two
        part.use_cache = False
    if model.config.is_encoder_decoder:
        whole, model = model, model.get_encoder()
        if not hasattr(model, "config"):  # not all encoders keep it
            model.config = whole.config
    return Loaded(model.eval().requires_grad_(False), missing, left_over)


def _load_weights(auto_class: Any, config: HFConfig, placement: dict[str, Any]) -> Loaded:
    options = {"dtype": getattr(torch, config.dtype), "use_safetensors": True, "output_loading_info": True}
    model, info = load_checkpoint(auto_class, config, **options, **placement)
    missing = sorted(info["missing_keys"])
    weights = model.state_dict()
    for name in missing:
        if weights[name].is_meta:
            load_as_nan(model.get_submodule(name.rpartition(".")[0]))
        else:
            weights[name].fill_(torch.nan)
    return Loaded(model, missing, sorted(info["unexpected_keys"]))


def check_left_over(loaded: Loaded, layers: Sequence[nn.Module], path: str) -> None:
    """Refuse an adapter's weights among those of the layers, and warn of others there that are not read.

    Elsewhere some are usual, such as those of a head.
    """
    of_layers = [f".{name}." for name, module in loaded.module.named_modules() if module in set(layers)]
    names = [name for name in loaded.left_over if any(layer in f".{name}" for layer in of_layers)]
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if any("lora_" in name for name in names):
        raise ConfigError(
            f"model hf: {path!r} holds an adapter's weights among its own, where nothing applies them: {listed}. Merge "
            "them (merge_and_unload of peft), and save the model."
        )
    if names:
        warnings.warn(
            f"{path}: {type(loaded.module).__name__} has no place for weights of its layers, which are not read: "
            f"{listed}. If the model was trained with them, its config is wrong.",
            stacklevel=2,
        )


def find_named_class(config: HFConfig) -> Any:
    """The class that the checkpoint says it is of; None if it says none that transformers has."""
    return _named(load_checkpoint(AutoConfig, find_base(config) or config))


def find_head_class(config: Any) -> Any:
    """The class that predicts next tokens, for the config of a loaded model; None if there is none."""
    named = _named(config)
    if named is not None and named.can_generate():
        return named
    return head_class_by_config(config)


def head_class_by_config(config: Any) -> Any:
    """The automatic class that predicts next tokens with such a config; None if there is none."""
    return next((auto_class for mapping, auto_class in _HEADS if type(config) in mapping), None)


def _named(config: Any) -> Any:
    names = config.architectures or ()
    return next((found for name in names if (found := getattr(transformers, name, None)) is not None), None)


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
