"""Any model with its weights drawn anew, as before all training: the control of a claim about what was learnt.

Auto-interpretability scores of SAEs on such models may come near to those on trained ones (Heap et al. 2025, arXiv
2501.17727). Architecture, sizes and tokenizer are kept; the weights are those of transformers' own initialisation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM

from harness import made_once
from harness.plugins.models import HFConfig
from harness.plugins.models.checkpoint import head_class_by_config, load_checkpoint, load_tokenizer
from harness.plugins.models.planning import find_base, hf_identity


def reinitialised(config: HFConfig) -> HFConfig:
    """The config of a model in the cache that differs only in its weights, which were drawn with `weights_seed`."""
    identity = json.dumps(hf_identity(dataclasses.replace(config, dtype="float32")), sort_keys=True)
    shape = load_checkpoint(AutoConfig, find_base(config) or config)
    auto_class = _class_of(shape)
    name = f"reinitialised-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    # Drawn once as another class, which the cache may still hold.
    name += "" if auto_class is _former_class_of(shape) else f"-{auto_class.__name__}"

    def make(folder: Path) -> None:
        load_tokenizer(config).save_pretrained(folder)
        _drawn(auto_class, shape, int(config.weights_seed or 0)).save_pretrained(folder)

    return dataclasses.replace(config, path=str(made_once(name, make)), revision=None, weights_seed=None)


def _class_of(shape: Any) -> Any:
    """The class with the head, if there is one that predicts next tokens; of an encoder and a decoder both."""
    # For these the class with a head is that of the decoder alone, and it is the encoder that is read.
    return AutoModel if shape.is_encoder_decoder else head_class_by_config(shape) or AutoModel


def _former_class_of(shape: Any) -> Any:
    return AutoModelForCausalLM if type(shape) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel


def _drawn(auto_class: Any, shape: Any, seed: int) -> Any:
    shape.quantization_config = None  # of packed weights, which these are not
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto_class.from_config(shape, dtype=torch.float32, trust_remote_code=False)
