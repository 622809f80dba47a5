"""A small model with random weights and one token per byte: nothing is downloaded, and nothing has been learnt.

For smoke tests, and as the control that any claim about trained models needs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

from harness import made_once
from harness.plugins.models import HFConfig, RandomWeightsConfig
from harness.plugins.models.hf import HF


def load(config: RandomWeightsConfig) -> HF:
    """The model, made once in the cache and then read as any other."""
    shape = {name: value for name, value in asdict(config).items() if name not in ("dtype", "device")}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        _byte_tokenizer().save_pretrained(folder)
        _gpt2(config).save_pretrained(folder)

    folder = made_once(f"random-{digest}", make)
    return HF(HFConfig(str(folder), dtype=config.dtype, device=config.device))


def _gpt2(config: RandomWeightsConfig) -> GPT2Model:
    shape = GPT2Config(
        n_layer=config.n_layers,
        n_embd=config.width,
        n_head=config.n_heads,
        vocab_size=256,
        n_positions=1024,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return GPT2Model(shape)


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
