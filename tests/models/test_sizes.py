"""Numbers of parameters that plans state are those of the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import harness
from harness.plugins.models import HFConfig, PackagedConfig, RandomWeightsConfig, SeedlingConfig
from harness.plugins.models.planning import hf_shape, packaged_shape, random_weights_shape, seedling_shape
from harness.plugins.models.random_weights import _gpt2
from harness.plugins.models.seedling import _ARCHITECTURES
from tests.support.tiny_models import save_tiny_model


def _numbers(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_of_seedlings(architecture: Any) -> None:
    config = SeedlingConfig(architecture=architecture, n_layers=3, width=40, n_heads=5, vocabulary=300, context=32)
    described = _ARCHITECTURES[architecture](config)
    described.update({"vocab_size": config.vocabulary})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(described)
    assert seedling_shape(config)["n_parameters"] == _numbers(model)


def test_of_random_weights() -> None:
    config = RandomWeightsConfig(n_layers=2, width=24, n_heads=3)
    with torch.device("meta"):
        assert random_weights_shape(config)["n_parameters"] == _numbers(_gpt2(config))


def test_of_folders(tmp_path: Path) -> None:
    folder = save_tiny_model("llama", tmp_path / "llama")
    shape = hf_shape(HFConfig(str(folder)))
    with torch.device("meta"):
        from transformers import AutoConfig, AutoModel

        expected = _numbers(AutoModel.from_config(AutoConfig.from_pretrained(folder)))
    assert shape is not None and shape["n_parameters"] == expected


def test_of_packages() -> None:
    """As counted in the loaded models."""
    assert packaged_shape(PackagedConfig("smollm2-135m"))["n_parameters"] == 134_515_008


def _write_header(folder: Path, name: str, header: bytes, n_bytes: int | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"num_hidden_layers": 2, "hidden_size": 8}')
    n = len(header) if n_bytes is None else n_bytes
    (folder / name).write_bytes(n.to_bytes(8, "little") + header)
    return folder


@pytest.mark.parametrize(
    ("header", "n_bytes"),
    [
        (b"{}", 2**62),
        (b"[" * 200_000, None),
        (b'{"w": {"shape": [-10, 10]}}', None),
        (b'{"w": {"shape": [0.5, 10]}}', None),
        (b'{"w": {"shape": 7}}', None),
    ],
)
def test_headers_that_are_none_are_refused(header: bytes, n_bytes: int | None, tmp_path: Path) -> None:
    folder = _write_header(tmp_path / "model", "model.safetensors", header, n_bytes)
    with pytest.raises(harness.ConfigError, match="is no safetensors file"):
        hf_shape(HFConfig(str(folder)))


def test_weights_under_two_names_count_once(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "consolidated.safetensors"):
        folder = _write_header(tmp_path / "model", name, b'{"w": {"shape": [5, 10]}}')
    shape = hf_shape(HFConfig(str(folder)))
    assert shape is not None and shape["n_parameters"] == 100
