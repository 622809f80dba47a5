"""Numbers of parameters that plans state are those of the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

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
