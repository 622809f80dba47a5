"""Groups of latents: their codes, and how they are kept with what they are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import harness

N, D = 60, 6


class Rotation(harness.Decomposition):
    """Dense signed codes."""

    def __init__(self, dictionary: torch.Tensor) -> None:
        self.dictionary = dictionary

    def encode(self, x: torch.Tensor) -> harness.Codes:
        return harness.Codes(x @ self.dictionary.T)

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        return codes.values @ self.dictionary


def groups() -> harness.GroupedDecomposition:
    generator = torch.Generator().manual_seed(0)
    base = Rotation(torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))[0])
    members = [
        [harness.Member(0, 1, 0.5, 2.0), harness.Member(3, -1, 0.9, 4.0)],
        [],
        [harness.Member(3, -1, 1.0, 4.0), harness.Member(3, 1, 0.2, 1.0), harness.Member(5, 1, 0.1, 3.0)],
    ]
    return harness.GroupedDecomposition(base, members)


def rows() -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_code_is_the_largest_share_of_a_members_peak() -> None:
    codes = rows() @ groups().base.dictionary.T
    wanted = torch.zeros(N, 3, dtype=torch.float64)
    for row in range(N):
        wanted[row, 0] = max(0.0, codes[row, 0] / 2, -codes[row, 3] / 4)
        wanted[row, 2] = max(-codes[row, 3] / 4, codes[row, 3] / 1, codes[row, 5] / 3)
    assert torch.allclose(groups().encode(rows()).to_dense(), wanted, atol=1e-12)
    assert groups().encode(rows()[:0]).values.shape == (0, 3)


def test_members_come_with_their_weights_the_largest_first() -> None:
    assert groups().members(0) == [harness.Member(3, -1, 0.9, 4.0), harness.Member(0, 1, 0.5, 2.0)]
    assert groups().members(1) == []


def test_nothing_is_decoded() -> None:
    with pytest.raises(harness.Undefined, match="not which"):
        groups().decode(groups().encode(rows()))


def test_they_are_saved_with_what_they_are_made_of(tmp_path: Path) -> None:
    base = harness.fit(harness.create("method", "pca", n_components=4), rows())
    groups = harness.GroupedDecomposition(base, [[harness.Member(0, 1, 0.5, 2.0), harness.Member(3, -1, 0.9, 4.0)]])
    groups.save(tmp_path)
    loaded = harness.load(tmp_path)
    assert isinstance(loaded, harness.GroupedDecomposition) and type(loaded.base) is type(base)
    assert torch.equal(loaded.encode(rows()).values, groups.encode(rows()).values)
    assert loaded.members(0) == groups.members(0)


def test_what_has_no_base_is_saved_as_ever(tmp_path: Path) -> None:
    harness.fit(harness.create("method", "pca", n_components=4), rows()).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decomposition.json", "decomposition.safetensors"]
    assert "base" not in (tmp_path / "decomposition.json").read_text()
    assert harness.load(tmp_path).base is None


class Shifted(Rotation):
    """A plugin's own, which calls a tensor so."""

    def __init__(self, dictionary: torch.Tensor) -> None:
        super().__init__(dictionary)
        self.base = torch.ones(3)  # type: ignore[assignment]


def test_a_plugin_may_call_something_else_its_base() -> None:
    tensors, _ = Shifted(torch.eye(D)).state()
    assert set(tensors) == {"dictionary", "base"}
    assert torch.equal(Shifted.from_state(tensors, {}).base, torch.ones(3))  # type: ignore[arg-type]
    assert "base" not in groups().state()[0]


def test_a_process_that_has_made_no_groups_loads_them(tmp_path: Path) -> None:
    """So does each worker, and each run that goes on."""
    base = harness.fit(harness.create("method", "pca", n_components=4), rows())
    harness.GroupedDecomposition(base, [[harness.Member(0, 1, 0.5, 2.0)]]).save(tmp_path)
    program = f"import harness; print(harness.load({str(tmp_path)!r}).members(0))"
    ended = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "[Member(latent=0, sign=1, weight=0.5, peak=2.0)]", ended.stderr
