"""Shards: what was written is read back at random, over their borders, without reading the rest."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import harness
from harness.capturing.masking import masked_rows
from harness.contracts.rows import make_rows, rows_from_tensors, rows_to_tensors
from harness.errors import StoreError
from harness.storage.activation_store import StoredActivations, shard_name, write_shard
from tests.support.parts import rows_of_text


def write(folder: Path, x: torch.Tensor, cuts: list[int], rows: pd.DataFrame | None = None) -> StoredActivations:
    """`x` in shards that end at `cuts`."""
    rows = rows_of_text(len(x)) if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(x)], strict=True)):
        write_shard(folder, number, x[start:end], rows.iloc[start:end].reset_index(drop=True))
    files: dict[str, Any] = {path.name: {} for path in folder.iterdir()}
    return StoredActivations(folder, {"n_rows": len(x), "width": x.shape[1], "files": files})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cuts", [[], [1], [40, 41, 90], [30, 30]])
def test_rows_come_back_as_written_and_as_float32(tmp_path: Path, dtype: torch.dtype, cuts: list[int]) -> None:
    x = torch.randn(100, 5).to(dtype)
    stored = write(tmp_path, x, cuts)
    everything = stored.take(torch.arange(100))
    assert everything.dtype == torch.float32 and torch.equal(everything, x.float())
    pd.testing.assert_frame_equal(stored.rows.astype({"document": str}), rows_of_text(100))
    assert stored.norms.dtype == torch.float64
    torch.testing.assert_close(stored.norms, x.double().norm(dim=1), rtol=1e-12, atol=0)
    assert all(load_file(path)["x"].dtype == dtype for path in tmp_path.iterdir())  # as wide as the model's


def test_the_same_rows_have_the_same_bytes(tmp_path: Path) -> None:
    """Whoever captures them: a manifest tells two captures apart by these."""
    written = []
    for number in range(20):
        write_shard(tmp_path, number, torch.ones(2, 3), rows_of_text(2))
        written.append((tmp_path / shard_name(number)).read_bytes())
    assert len(set(written)) == 1


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_rows_in_any_order_over_shard_borders(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    n = 30
    x = torch.arange(n * 2, dtype=torch.float32).reshape(n, 2)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    index = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), dtype=torch.long)
    stored = write(tmp_path_factory.mktemp("shards"), x, cuts)
    assert torch.equal(stored.take(index), x[index])


def test_rows_that_were_read_do_not_stay_in_memory(tmp_path: Path) -> None:
    n_rows, width = 50_000, 512  # 102 MB
    write(tmp_path, torch.ones(n_rows, width), [])
    code = f"""
import re, torch
from pathlib import Path
from harness.storage.activation_store import StoredActivations

def resident_mb(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

before = resident_mb("VmRSS")
manifest = {{"n_rows": {n_rows}, "width": {width}, "files": ["{shard_name(0)}"]}}
stored = StoredActivations(Path({str(tmp_path)!r}), manifest)
for places in torch.randperm({n_rows}).split(1000):
    assert stored.take(places).sum() == 1000 * {width}
print(resident_mb("VmHWM") - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 30


def test_a_shard_that_ends_too_early_is_named(tmp_path: Path) -> None:
    stored = write(tmp_path, torch.ones(10, 3), [])
    path = tmp_path / shard_name(0)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(StoreError, match=r"shard-00000.safetensors ends too early. Delete its folder"):
        stored.take(torch.arange(10))


class HalfRead(io.FileIO):
    """Gives no more than half of what was asked for, as systems may."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[: max(1, len(buffer) // 2)])


def test_what_comes_in_parts_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 7)
    stored = write(tmp_path, x, [20])
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: HalfRead(path))
    assert torch.equal(stored.take(torch.arange(50)), x)


@pytest.mark.parametrize("place", [-1, 10])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, place: int) -> None:
    with pytest.raises(IndexError, match="of 10"):
        write(tmp_path, torch.ones(10, 3), []).take(torch.tensor([3, place]))


class TestMaskedRows:
    def stored(self, tmp_path: Path, norms: list[float], name: str = "fit") -> StoredActivations:
        return write(tmp_path / name, torch.tensor(norms)[:, None] * torch.tensor([[0.6, -0.8]]), [])

    def test_masks_above_a_multiple_of_the_median_of_the_fit_rows(self, tmp_path: Path) -> None:
        fit = self.stored(tmp_path, [1, 2, 3, 4, 100])  # median 3
        other = self.stored(tmp_path, [29.9, 30.1, 1e6, 0], "evaluation")
        assert masked_rows(other, fit, 10.0).tolist() == [False, True, True, False]
        assert masked_rows(fit, fit, 10.0).tolist() == [False] * 4 + [True]
        assert masked_rows(fit, fit, 1.2).tolist() == [False] * 3 + [True] * 2

    @pytest.mark.parametrize("n_zeros", [0, 2, 3, 40])
    def test_rows_of_zeros_do_not_mask_the_others(self, tmp_path: Path, n_zeros: int) -> None:
        """Most rows of one's own may be zero; of five and three zeros the median is 1."""
        fit = self.stored(tmp_path, [1, 10, 12, 14, 200] + [0] * n_zeros)  # median 12
        assert masked_rows(fit, fit, 10.0).tolist() == [False] * 4 + [True] + [False] * n_zeros

    def test_where_all_fit_rows_are_zero_only_what_is_not_finite_is_masked(self, tmp_path: Path) -> None:
        fit = self.stored(tmp_path, [0, 0])
        other = self.stored(tmp_path, [0, 1e6, float("inf"), float("nan")], "evaluation")
        assert masked_rows(other, fit, 10.0).tolist() == [False, False, True, True]

    def test_masks_what_is_not_finite_and_does_not_let_it_move_the_median(self, tmp_path: Path) -> None:
        nan, inf = float("nan"), float("inf")
        fit = self.stored(tmp_path, [nan, inf, -inf, nan, 1, 2, 3])
        assert masked_rows(fit, fit, 10.0).tolist() == [True] * 4 + [False] * 3
        assert masked_rows(self.stored(tmp_path, [nan, 19, 21], "other"), fit, 10.0).tolist() == [True, False, True]

    def test_says_so_where_no_fit_row_is_finite(self, tmp_path: Path) -> None:
        fit = self.stored(tmp_path, [float("inf")] * 3)
        with pytest.raises(harness.StoreError, match=r"no row is finite\. In float16 large activations overflow"):
            masked_rows(fit, fit, 10.0)


@pytest.mark.parametrize(
    "columns",
    [
        {
            "document": ["b", "a", "b"],
            "window": [0, 1, 2],
            "position": [5, 6, 7],
            "start": [0, None, 2],
            "end": [1, None, 3],
        },
        {"document": [7, 3, 7], "window": [0] * 3, "position": [0] * 3, "special": [True, False, True]},
        {"document": ["é\n\u2028'\"", "", "0"], "window": [0] * 3, "position": [0] * 3},
        {"document": [], "window": [], "position": []},
    ],
)
def test_a_rows_table_survives_the_disk(columns: dict[str, list[Any]]) -> None:
    rows = make_rows(columns)
    for table in (rows, rows[["document", "position", "end"]]):
        back = rows_from_tensors(*rows_to_tensors(table))
        pd.testing.assert_frame_equal(back, table, check_dtype=bool(len(rows)))
