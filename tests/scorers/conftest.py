"""What the tests of scorers share. Planted latents are in planted.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harness.embedding import Embedder
from scorers import planted


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The packaged sentence encoder; all tests share what it has embedded."""
    return Embedder(planted.encoder())
