"""Logits that models make of residual rows, against their own logits and against norm and head by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import harness
from tests.support.tiny_models import FAMILIES, TEXTS, save_tiny_language_model, save_tiny_model, tiny_tokenizer

# Modules of transformers 5.17 that run torch.jit.script on import, which newer releases of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

HEADLESS = {
    *("bert", "roberta", "electra", "distilbert", "modernbert", "albert", "mpnet", "deberta_v2", "longformer"),
    *("roformer", "t5", "t5_shallow", "bart", "pegasus"),
}
IDS = torch.tensor([tiny_tokenizer()(text)["input_ids"][:24] for text in TEXTS[:3]])
# Where the last norm is, by hand.
NORMS = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "llama": "model.norm",
    "gemma2": "model.norm",
    "bloom": "transformer.ln_f",
    "mamba": "backbone.norm_f",
}


def _load(family: str, folder: Path) -> tuple[Any, Any]:
    save_tiny_language_model(family, folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False)
    return harness.create("model", "hf", path=str(folder)), reference


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - HEADLESS))
@torch.no_grad()
def test_the_last_residual_stream_gives_the_models_own_logits(family: str, load: Any) -> None:
    model, reference = load(family)
    site = f"resid_post.{model.n_layers - 1}"
    x = model.activations(IDS, torch.ones_like(IDS).bool(), [site])[site]
    expected: Tensor = reference(input_ids=IDS, use_cache=False).logits
    found = model.unembed(x.flatten(0, 1)).unflatten(0, IDS.shape)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found.flip(1), expected, atol=1e-2)
    assert model.unembed(x[0, :1]).shape == (1, expected.shape[-1])


@pytest.mark.parametrize("family", NORMS)
@torch.no_grad()
def test_directions_go_through_norm_and_head(family: str, tmp_path: Path) -> None:
    model, reference = _load(family, tmp_path)
    x = torch.randn(200, model.width, generator=torch.Generator().manual_seed(0))  # more rows than a window has tokens
    x[0] = 0
    logits = reference.get_output_embeddings()(reference.get_submodule(NORMS[family])(x))
    if family == "gemma2":
        logits = 30 * torch.tanh(logits / 30)  # its soft-capping
    torch.testing.assert_close(model.unembed(x), logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_blocks_run_once_whatever_is_asked(tmp_path: Path) -> None:
    model, _ = _load("llama", tmp_path)
    x = torch.randn(3, model.width, generator=torch.Generator().manual_seed(0))
    first, run = model.unembed(x), []
    for block in model.blocks:
        block.call.module.mlp.register_forward_hook(lambda *_: run.append(1))
    assert torch.equal(model.unembed(x), first) and len(model.unembed(x[:1])) == 1 and not run


def test_a_head_that_sees_more_than_one_row_is_not_run_on_one(tmp_path: Path) -> None:
    """As where attention over earlier streams comes after the last block (Inkling2)."""
    model, _ = _load("llama", tmp_path)
    assert model._no_head is None  # now it is loaded
    model.module.lm_head.register_forward_pre_hook(lambda module, args: (args[0].cumsum(dim=1),))
    with pytest.raises(harness.Undefined, match="more than the residual stream leads to it"):
        model.unembed(torch.zeros(1, model.width))
    replay = model.replay(IDS, "resid_post.2")
    assert torch.equal(replay.patched(replay.x), replay.logits())


def test_models_without_a_head_say_so(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("bert", tmp_path)))
    with pytest.raises(harness.Undefined, match="bert has no language-model head"):
        model.unembed(torch.zeros(1, model.width))


def test_texts_of_tokens_keep_their_space(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("gpt2", tmp_path)))
    text = "The quick brown fox, 12 rainy days. Überraschung 😀"
    ids = model.tokenizer(text)["input_ids"]
    texts = model.token_texts(ids)
    assert len(texts) == len(ids)
    whole = [t for t in texts if "\ufffd" not in t]
    assert "".join(texts).startswith("The quick brown fox, 12 rainy days. ")
    assert any(t.startswith(" ") for t in whole) and model.token_texts([0]) == ["<s>"]
