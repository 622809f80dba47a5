"""A model of one config with its weights drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from harness.plugins.models import HFConfig, PackagedConfig, hf, planning
from tests.support import tiny_models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tiny_models.save_tiny_language_model("llama", tmp_path / "trained")


def test_the_weights_are_those_that_transformers_begins_with(folder: Path) -> None:
    before = torch.get_rng_state()
    drawn = hf.load(HFConfig(str(folder), weights_seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    expected = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    assert _same(drawn.module, expected.model)
    trained = hf.load(HFConfig(str(folder)))
    assert not _same(drawn.module, trained.module)
    assert drawn.tokenizer_hash == trained.tokenizer_hash
    assert not _same(drawn.module, hf.load(HFConfig(str(folder), weights_seed=4)).module)


def test_the_head_is_of_the_same_drawing(folder: Path) -> None:
    drawn = hf.load(HFConfig(str(folder), weights_seed=3))
    ids = torch.tensor([[5, 6, 7, 8]])
    logits = drawn.replay(ids, "resid_post.0").logits()
    torch.manual_seed(3)
    expected = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32).eval()
    torch.testing.assert_close(logits, expected(ids).logits.detach())


def test_an_encoder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    folder = str(tiny_models.save_tiny_model("bert", tmp_path / "bert"))
    assert not _same(hf.load(HFConfig(folder, weights_seed=0)).module, hf.load(HFConfig(folder)).module)


def test_the_control_of_an_encoder_beside_a_decoder_is_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class of its config that has a head is that of the decoder alone."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    folder = str(tiny_models.save_tiny_model("bart", tmp_path / "bart"))
    trained, drawn = (hf.load(HFConfig(folder, weights_seed=seed)) for seed in (None, 0))
    assert type(drawn.module) is type(trained.module) and drawn.n_layers == trained.n_layers == 3
    assert planning.hf_identity(HFConfig(folder, weights_seed=0))["drawn"] == 2
    assert not _same(drawn.module, trained.module)


def test_the_control_of_a_wrapper_has_its_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    text = {"model_type": "llama", "vocab_size": 300, **tiny_models.FAMILIES["llama"][1]}
    vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=299)
    tiny_models.save_model(LlavaForConditionalGeneration(config), tmp_path / "llava")
    drawn = hf.load(HFConfig(str(tmp_path / "llava"), weights_seed=0))
    assert drawn.replay(torch.tensor([[5, 6, 7]]), "resid_post.0").logits().shape == (1, 3, 300)


def test_results_of_the_control_are_not_those_of_the_model(folder: Path) -> None:
    identities: list[Any] = [planning.hf_identity(HFConfig(str(folder), weights_seed=seed)) for seed in (None, 0, 1)]
    identities += [planning.packaged_identity(PackagedConfig(weights_seed=seed)) for seed in (None, 0, 1)]
    assert all(one not in identities[:place] for place, one in enumerate(identities))
    assert "weights_seed" not in identities[0] and "drawn" not in identities[1]


def _same(module: torch.nn.Module, other: torch.nn.Module) -> bool:
    weights, others = module.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
