from __future__ import annotations

from pathlib import Path

import pytest
import torch

import harness
from tests.support import literal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_identity_is_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    x = literal.mixture(50).to(dtype)
    identity = harness.fit(harness.create("method", "identity"), x)
    codes = identity.encode(x)
    assert codes.indices is None
    assert torch.equal(identity.decode(codes), x.to(codes.values.dtype))
    assert identity.n_latents == 32
    assert torch.equal(identity.dictionary, torch.eye(32, dtype=codes.values.dtype))
    identity.save(tmp_path)
    assert harness.load(tmp_path).n_latents == 32


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_mean_explains_nothing(offset: float, tmp_path: Path) -> None:
    x = (literal.mixture(9000) + offset).float()  # three batches
    mean = harness.fit(harness.create("method", "mean"), x)
    codes = mean.encode(x.double())
    assert codes.values.shape == (9000, 0)
    assert mean.n_latents == 0
    total = (x.double() - x.double().mean(dim=0)).square().sum()
    assert (x.double() - mean.decode(codes)).square().sum().item() == pytest.approx(total.item(), rel=1e-12)
    mean.save(tmp_path)
    assert torch.equal(harness.load(tmp_path).decode(codes), mean.decode(codes))
