"""Shards of a pass count as they were sealed; what else lies in their places is in nobody's way."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from harness.capturing.pass_shards import PassShards, Shard

ROWS = pd.DataFrame({name: range(3) for name in ("document", "window", "position", "start", "end")}).assign(
    special=False
)


def test_a_link_that_leads_nowhere_is_no_shard_and_is_written_anew(tmp_path: Path) -> None:
    shards = PassShards({"site": tmp_path}, True, pytest.fail)
    (tmp_path / "shard-00000.safetensors").symlink_to("nowhere")
    assert shards.n_bytes == 0 and not shards.have(0)
    shards.write(0, Shard(True, 3, 0.5, None, 0, {}), {"site": torch.ones(3, 2)}, ROWS)
    again = PassShards({"site": tmp_path}, True, pytest.fail)
    assert again.have(0) and again.n_bytes > 0 and not (tmp_path / "shard-00000.safetensors").is_symlink()
