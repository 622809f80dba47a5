"""An encoder for all tests of scorers. Planted latents are in planted.py."""

from __future__ import annotations

import pytest

from harness.asking.embedding import Embedder
from tests.support import planted


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The packaged sentence encoder; all tests share what it has embedded."""
    return Embedder(planted.encoder())
