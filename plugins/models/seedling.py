"""Small language models that are trained on packaged texts when first used, and then lie in the cache.

Families of them differ in nothing but their seed, which decides the initial weights and the order of the windows; or in
architecture, depth, width, tokenizer or texts. On one machine, with one number of threads, a seed gives the same bytes
each time; another machine or device gives other weights that are as good. For what is trained on see
`training_texts.py`, for how `pretraining.py`.

A training leaves checkpoints, ordinary transformers folders, before its first step and after a sixteenth, an eighth, a
quarter, half and all of its steps. Only as many steps are taken as the checkpoints that were asked for need; another
process that wants one waits. Beside the weights lies the record of their training.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, PreTrainedModel

from harness import cache_folder, file_digest, folder_damage, owned_lock, seal_folder, set_aside
from harness.plugins.models import HFConfig, SeedlingConfig
from harness.plugins.models.checkpoint import find_device
from harness.plugins.models.hf import HF
from harness.plugins.models.planning import seedling_recipe
from harness.plugins.models.pretraining import RECIPE, Pretraining, cut_windows, mean_loss
from harness.plugins.models.training_texts import TrainingTexts, load_texts

LEARNT_NATS = 0.7
_RECORD = "training.json"
_WEIGHTS = "model.safetensors"
_STATE = "state.safetensors"
_RECORDED_LOSSES = 100
_VALIDATION_WINDOWS = 256
_PEAK_RATE = 2e-3


class Seedling(HF):
    """A model of `hf` with the record of its training.

    Where the loss of the last weights is less than .7 nats under the unigram entropy, a warning says so: matching the
    layers of such models means little.
    """

    def __init__(self, config: SeedlingConfig) -> None:
        self.folder = checkpoint(config)
        self.training_record = _read_record(self.folder)
        nats = self.training_record["nats_under_unigram"]
        if self.training_record["step"] == config.n_steps and nats < LEARNT_NATS:
            warnings.warn(
                f"{_label(config)}: the validation loss is {nats:.2f} nats under the unigram entropy, less than "
                f"{LEARNT_NATS}. It has learnt little, and matching its layers means little. Raise n_steps.",
                stacklevel=2,
            )
        super().__init__(HFConfig(str(self.folder), dtype=config.dtype, device=config.device))


def training_record(config: SeedlingConfig) -> dict[str, Any]:
    """The record of the weights' training: recipe, versions, machine, losses, and the checksum of the weights.

    `validation_loss` and `unigram_entropy` are in nats per token over the same tokens, `nats_under_unigram` is their
    difference; `training_losses` are (step, mean loss since the one before). Trains if need be.
    """
    return _read_record(checkpoint(config))


def checkpoint(config: SeedlingConfig) -> Path:
    """The folder with the weights at `config.step`; trains as far as they need."""
    recipe = seedling_recipe(config)
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    family = cache_folder() / "models" / f"seedling-{digest}"
    folder = family / f"step-{config.read_step}"
    if folder_damage(folder, _name(folder)) is not None:
        family.mkdir(parents=True, exist_ok=True)
        with owned_lock(family.with_name(f"{family.name}.lock"), partial(_tell, _label(config))):
            _make_whole(folder, config, recipe)
    return folder


def _tell(label: str, text: str) -> None:
    print(f"{label}: {text}", file=sys.stderr, flush=True)


def _name(folder: Path) -> str:
    """The name that a checkpoint is sealed under."""
    return f"{folder.parent.name}/{folder.name}"


def _make_whole(folder: Path, config: SeedlingConfig, recipe: dict[str, Any]) -> None:
    """Train a checkpoint, unless another process has; of a damaged one the weights stay, if they are as recorded."""
    damage = folder_damage(folder, _name(folder))
    if damage is None:
        return
    texts = load_texts(recipe["corpus"], config.vocabulary)
    if folder.exists():
        record = _record_of_weights(folder)
        done = "it is trained again" if record is None else "its weights are as they were, and the rest is made again"
        warnings.warn(f"{_label(config)}: {damage}: {done}.", stacklevel=3)
        if record is not None:
            model = _untrained(config, texts.tokenizer.eos_token_id)
            _save(folder, texts, model, record, weights=folder / _WEIGHTS)
            return
        set_aside(folder)
    _train(config, recipe, folder.parent, texts)


def _record_of_weights(folder: Path) -> dict[str, Any] | None:
    """The record of a checkpoint's training, if it has one that its weights fit."""
    try:
        record = _read_record(folder)
        with (folder / _WEIGHTS).open("rb") as file:
            is_whole = record["weights_sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_whole else None


def _train(config: SeedlingConfig, recipe: dict[str, Any], family: Path, texts: TrainingTexts) -> None:
    model = _untrained(config, texts.tokenizer.eos_token_id)
    training = Pretraining(
        model.to(find_device(config.device)),
        cut_windows(texts.training, config.context),
        n_steps=config.n_steps,
        batch_windows=config.batch_windows,
        peak_rate=_peak_rate(config.width),
        seed=config.seed,
        state_path=family / _STATE,
        label=_label(config),
    )
    training.go_on(config.read_step, config.checkpoints(), partial(_keep, recipe, texts, training, family))
    if config.read_step == config.n_steps:
        training.state_path.unlink()


def _keep(recipe: dict[str, Any], texts: TrainingTexts, training: Pretraining, family: Path) -> None:
    """Save a checkpoint, unless a process that was killed right after it has done so."""
    folder = family / f"step-{training.step}"
    if not folder.exists():
        _save(folder, texts, training.model, _record(recipe, texts, training))


def _save(
    folder: Path, texts: TrainingTexts, model: PreTrainedModel, record: dict[str, Any], weights: Path | None = None
) -> None:
    """Save a checkpoint, which appears whole, in the place of one that there may be.

    Args:
        folder: of the checkpoint.
        texts: have the tokenizer.
        model: its config, and its weights.
        record: of the training; the checksum of the weights is added.
        weights: a file of the weights, instead of the model's.
    """
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    texts.tokenizer.save_pretrained(unfinished)
    model.save_pretrained(unfinished)
    if weights is not None:
        shutil.copyfile(weights, unfinished / _WEIGHTS)
    whole = record | {"weights_sha256": file_digest(unfinished / _WEIGHTS)}
    (unfinished / _RECORD).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    seal_folder(unfinished, _name(folder))
    if folder.exists():
        set_aside(folder)
    unfinished.rename(folder)


def _record(recipe: dict[str, Any], texts: TrainingTexts, training: Pretraining) -> dict[str, Any]:
    windows = cut_windows(texts.validation, recipe["context"])[:_VALIDATION_WINDOWS]
    loss, entropy = mean_loss(training.model, windows), texts.unigram_entropy(windows[:, 1:])
    every = math.ceil(training.n_steps / _RECORDED_LOSSES)
    ends = range(every, training.step + 1, every)
    device = next(training.model.parameters()).device.type
    return {
        "recipe": recipe | RECIPE | {"peak_rate": training.peak_rate},
        "step": training.step,
        "n_parameters": sum(parameter.numel() for parameter in training.model.parameters()),
        "tokens_seen": training.step * recipe["batch_windows"] * recipe["context"],
        "training_tokens": len(texts.training),
        "training_losses": [[end, sum(training.losses[end - every : end]) / every] for end in ends],
        "validation_tokens": windows[:, 1:].numel(),
        "validation_loss": loss,
        "unigram_entropy": entropy,
        "nats_under_unigram": entropy - loss,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "machine": {"device": device, "threads": torch.get_num_threads(), "seconds": round(training.seconds, 1)},
    }


def _read_record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / _RECORD).read_text(encoding="utf-8")))


def _peak_rate(width: int) -> float:
    """The peak learning rate, which falls with the width. Where 6 layers of width 128 saw 262k tokens, 1.5e-3, 3e-3 and
    6e-3 gave 6.11, 6.08 and 6.47 nats; longer trainings bear less.
    """
    return _PEAK_RATE * 128 / width


def _label(config: SeedlingConfig) -> str:
    return f"seedling {config.architecture} {config.n_layers}x{config.width}, seed {config.seed}"


def _untrained(config: SeedlingConfig, end_of_text: int) -> PreTrainedModel:
    """The model before its first step, whatever the state of the global generator, which is left as it was."""
    described = _ARCHITECTURES[config.architecture](config)
    described.update({"vocab_size": config.vocabulary, "bos_token_id": end_of_text, "eos_token_id": end_of_text})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed would seed accelerators too
        return AutoModelForCausalLM.from_config(described, dtype=torch.float32).train()


def _gpt2(config: SeedlingConfig) -> GPT2Config:
    return GPT2Config(
        n_layer=config.n_layers,
        n_embd=config.width,
        n_head=config.n_heads,
        n_positions=config.context,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )


def _gpt_neox(config: SeedlingConfig) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        num_hidden_layers=config.n_layers,
        hidden_size=config.width,
        num_attention_heads=config.n_heads,
        intermediate_size=config.n_neurons,
        max_position_embeddings=config.context,
    )


def _llama(config: SeedlingConfig) -> LlamaConfig:
    return LlamaConfig(
        num_hidden_layers=config.n_layers,
        hidden_size=config.width,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        intermediate_size=config.n_neurons,
        max_position_embeddings=config.context,
    )


_ARCHITECTURES = {"gpt2": _gpt2, "gpt_neox": _gpt_neox, "llama": _llama}
