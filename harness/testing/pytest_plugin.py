"""Fixtures for the tests of plugins, there wherever harness is installed. Imports torch when one is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from harness.contracts.latent import Latent


@pytest.fixture
def harness_rows() -> Float[Tensor, "n d"]:
    """300 rows of made-up activations of width 24, in float32."""
    from harness.testing.examples import rows

    return rows(300, 24)


@pytest.fixture
def harness_latents() -> list[Latent]:
    """Eight latents that stand for one word each, with 20 active and 20 silent windows to explain and to test."""
    from harness.testing.examples import planted

    return [planted(index) for index in range(8)]
