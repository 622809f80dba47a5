"""Small language models that several tests read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import transformers

import harness
from tests.support.tiny_models import save_tiny_language_model


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """The harness' model and that of transformers, by family, each made once."""
    loaded: dict[str, tuple[Any, Any]] = {}

    def get(family: str) -> tuple[Any, Any]:
        if family not in loaded:
            folder = tmp_path_factory.mktemp(family)
            save_tiny_language_model(family, folder)
            # Weights that take gradients are convolved by another kernel, which rounds otherwise.
            reference = transformers.AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False)
            loaded[family] = harness.create("model", "hf", path=str(folder)), reference
        return loaded[family]

    return get
