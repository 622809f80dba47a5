"""Checkpoints of classes, parts and weights that need a second look, against transformers; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import harness
from harness.plugins.models import HFConfig, planning
from tests.support.tiny_models import TEXTS, randomised, save_model, save_tiny_model, tiny_tokenizer

# Modules of transformers 5.17 that run torch.jit.script on import, which newer releases of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

IDS = torch.tensor([tiny_tokenizer()(TEXTS[0])["input_ids"][:24]])
SPECIAL = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
LLAMA: dict[str, Any] = SPECIAL | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
T5: dict[str, Any] = {"vocab_size": 300, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4}
MARIAN: dict[str, Any] = SPECIAL | {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "decoder_start_token_id": 2,
}
VISION: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _load(path: Path, **options: Any) -> Any:
    return harness.create("model", "hf", path=str(path), device="cpu", **options)


def _read(model: Any, site: str = "resid_post.0") -> Tensor:
    found: Tensor = model.activations(IDS, torch.ones_like(IDS).bool(), [site])[site]
    return found


@torch.no_grad()
def _state(reader: Any) -> Tensor:
    found: Tensor = reader(input_ids=IDS, output_hidden_states=True).hidden_states[1]
    return found


@pytest.mark.parametrize(
    ("make", "reader"),
    [
        # Weights that are computed: its class says so, AutoModel's does not.
        (lambda: transformers.MarianMTModel(transformers.MarianConfig(**MARIAN)).eval(), "get_encoder"),
        # Parts of an encoder-decoder.
        (lambda: randomised(transformers.T5EncoderModel(transformers.T5Config(**T5))), "get_encoder"),
        (
            lambda: randomised(
                transformers.BlenderbotForCausalLM(
                    transformers.BlenderbotConfig(**MARIAN | {"is_decoder": True, "is_encoder_decoder": False})
                )
            ),
            "get_decoder",
        ),
    ],
    ids=["computed", "encoder", "decoder"],
)
def test_what_the_checkpoint_says_it_is_can_be_read(make: Any, reader: str, tmp_path: Path) -> None:
    reference = save_model(make(), tmp_path)
    torch.testing.assert_close(_read(_load(tmp_path)), _state(getattr(reference, reader)()), rtol=1e-5, atol=1e-5)


def test_tied_weights_are_not_missing_under_their_other_name(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**LLAMA, tie_word_embeddings=True)
    reference = save_model(randomised(transformers.LlamaForCausalLM(config)), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(_read(_load(tmp_path)), _state(reference), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_heads_of_multimodal_wrappers_are_found(tmp_path: Path) -> None:
    text = LLAMA | {"model_type": "llama"}
    config = transformers.LlavaConfig(text_config=text, vision_config=VISION, image_token_index=299)
    reference = save_model(randomised(transformers.LlavaForConditionalGeneration(config)), tmp_path)
    replay = _load(tmp_path).replay(IDS, "resid_post.1")
    logits = reference(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(replay.logits(), logits, rtol=1e-5, atol=1e-5)
    assert planning.hf_shape(HFConfig(str(tmp_path))) == {"n_layers": 3, "width": 32, "attn_z": 32, "mlp_act": 48}


def _mllama() -> Any:
    text = {key: value for key, value in LLAMA.items() if key != "bos_token_id"} | {
        "cross_attention_layers": [1],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }
    vision = {
        "hidden_size": 16,
        "attention_heads": 2,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "intermediate_size": 16,
        "vision_output_dim": 32,
        "image_size": 28,
        "patch_size": 14,
        "intermediate_layers_indices": [0],
        "supported_aspect_ratios": [[1, 1]],
    }
    config = transformers.MllamaConfig(vision_config=vision, text_config=text, image_token_index=299)
    return transformers.MllamaForConditionalGeneration(config)


def _funnel() -> Any:
    small = {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48, "num_decoder_layers": 3, "block_sizes": [1, 1, 1]}
    return transformers.FunnelModel(transformers.FunnelConfig(vocab_size=300, **small))


def _clip() -> Any:
    part = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = SPECIAL | part | {"max_position_embeddings": 64}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    return transformers.CLIPModel(config)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_mllama, r"config numbers 3 layers, and a text runs through 2 .* sites would be named after other layers"),
        (_funnel, r"runs through 6 of one kind, 3 of which"),
        (_clip, r"CLIPModel, can't be run in float32 on cpu on the ids of a text alone"),
        (
            lambda: transformers.XLMModel(
                transformers.XLMConfig(vocab_size=300, emb_dim=32, n_layers=1, n_heads=4, max_position_embeddings=64)
            ),
            "XLMModel: found no blocks",
        ),
        (
            lambda: transformers.LlamaModel(transformers.LlamaConfig(**LLAMA | {"vocab_size": 60})),
            "gives the id [0-9]+, and the model has embeddings of 60 tokens",
        ),
    ],
    ids=["skipped_layers", "other_layers", "no_text_alone", "one_layer_of_several_lists", "tokenizer_of_another"],
)
def test_what_can_not_be_read_is_refused_in_words(make: Any, reason: str, tmp_path: Path) -> None:
    save_model(make(), tmp_path)
    with pytest.raises(harness.ConfigError, match=reason):
        _load(tmp_path)


def test_a_single_layer_is_read(tmp_path: Path) -> None:
    reference = save_model(
        transformers.LlamaModel(transformers.LlamaConfig(**LLAMA | {"num_hidden_layers": 1})), tmp_path
    )
    model = _load(tmp_path)
    assert model.n_layers == 1
    torch.testing.assert_close(reference.norm(_read(model)), _state(reference), rtol=1e-5, atol=1e-5)


def test_a_single_file_of_weights_is_told_from_a_folder(tmp_path: Path) -> None:
    path = save_tiny_model("llama", tmp_path) / "model.safetensors"
    with pytest.raises(harness.ConfigError, match=r"is a file, and no \.gguf"):
        planning.hf_identity(HFConfig(str(path)))


def test_windows_longer_than_a_model_can_take_and_devices_that_are_not_there_are_told(tmp_path: Path) -> None:
    model = _load(save_tiny_model("bert", tmp_path, max_position_embeddings=40))
    with pytest.raises(harness.ConfigError, match=r"can't take a window of 44 tokens: [^|]*Lower context"):
        harness.capture(model, [" ".join(TEXTS)], ["resid_post.0"], context=64)
    with pytest.raises(harness.ConfigError, match="device 'gpu0' can't be used here"):
        harness.create("model", "hf", path=str(tmp_path), device="gpu0")
    for broken in ("{", "[]"):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(harness.ConfigError, match=r"config\.json"):
            planning.hf_shape(HFConfig(str(tmp_path)))


# Adapters


def _save_adapter(folder: Path, base: Path) -> None:
    folder.mkdir(exist_ok=True)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file(
        {name.format("A"): torch.ones(2, 32), name.format("B"): torch.ones(32, 2)}, folder / "adapter_model.safetensors"
    )
    described = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(described))


def _add_weights(folder: Path, added: dict[str, torch.Tensor]) -> None:
    save_file(load_file(folder / "model.safetensors") | added, folder / "model.safetensors", {"format": "pt"})


def test_an_adapter_among_the_weights_is_never_left_out(tmp_path: Path) -> None:
    folder = save_tiny_model("llama", tmp_path)
    name = "layers.1.self_attn.q_proj.lora_{}.default.weight"
    _add_weights(folder, {name.format("A"): torch.ones(2, 32), name.format("B"): torch.ones(32, 2)})
    with pytest.raises(harness.ConfigError, match=r"an adapter's weights among its own.*lora_A.*Merge them"):
        _load(folder)


def test_weights_of_layers_that_have_no_place_are_told(tmp_path: Path) -> None:
    folder = save_tiny_model("llama", tmp_path)
    _add_weights(folder, {"score.weight": torch.ones(2, 32)})
    _load(folder)  # a head's weights are nothing to warn of
    _add_weights(folder, {"layers.1.self_attn.q_proj.bias": torch.ones(32)})
    with pytest.warns(UserWarning, match=r"LlamaModel has no place for weights of its layers.*q_proj\.bias"):
        _load(folder)


@pytest.mark.parametrize("name", ["base", "alone", "with_config"])
def test_an_adapter_is_never_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    base = save_tiny_model("llama", tmp_path / "base")
    before = planning.hf_identity(HFConfig(str(base)))
    _save_adapter(tmp_path / name, base)
    if name == "with_config":
        (tmp_path / name / "config.json").write_bytes((base / "config.json").read_bytes())
    with pytest.raises(harness.ConfigError, match=r"has an adapter .*pip install peft"):
        _load(tmp_path / name)
    identity = planning.hf_identity(HFConfig(str(tmp_path / name)))
    assert identity != before and "adapter_model.safetensors" in identity["files"]
    assert planning.hf_shape(HFConfig(str(tmp_path / name))) == {
        "n_layers": 3,
        "width": 32,
        "attn_z": 32,
        "mlp_act": 48,
        "n_parameters": 32864,
    }
    assert (identity.get("base") == before) == (name != "base")


def test_the_base_of_an_adapter_is_part_of_its_identity(tmp_path: Path) -> None:
    base = save_tiny_model("llama", tmp_path / "base")
    _save_adapter(tmp_path / "alone", base)
    identity = planning.hf_identity(HFConfig(str(tmp_path / "alone")))
    assert identity["base"] == planning.hf_identity(HFConfig(str(base)))
    save_tiny_model("llama", base, rms_norm_eps=0.1)
    assert planning.hf_identity(HFConfig(str(tmp_path / "alone"))) != identity
    _save_adapter(tmp_path / "alone", tmp_path / "alone")
    with pytest.raises(harness.ConfigError, match="names no base"):
        planning.hf_identity(HFConfig(str(tmp_path / "alone")))
