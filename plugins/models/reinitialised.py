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

from harness.plugins.models import HFConfig
from harness.plugins.models.cached import made_once
from harness.plugins.models.checkpoint import load_checkpoint, load_tokenizer
from harness.plugins.models.planning import find_base, hf_identity


def reinitialised(config: HFConfig) -> HFConfig:
    """The config of a model in the cache that differs only in its weights, which were drawn with `weights_seed`."""
    identity = json.dumps(hf_identity(dataclasses.replace(config, dtype="float32")), sort_keys=True)
    name = f"reinitialised-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def make(folder: Path) -> None:
        load_tokenizer(config).save_pretrained(folder)
        _drawn(load_checkpoint(AutoConfig, find_base(config) or config), int(config.weights_seed or 0)).save_pretrained(
            folder
        )

    return dataclasses.replace(config, path=str(made_once(name, make)), revision=None, weights_seed=None)


def _drawn(shape: Any, seed: int) -> Any:
    shape.quantization_config = None  # of packed weights, which these are not
    auto_class = AutoModelForCausalLM if type(shape) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto_class.from_config(shape, dtype=torch.float32, trust_remote_code=False)
