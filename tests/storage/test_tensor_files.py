"""Files of tensors give what was saved, or are named and removed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.storage.tensor_files import save_tensors, take_up_tensors, tensors_damages

TENSORS = {
    "weights": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
    "number": torch.tensor(3.5, dtype=torch.float64),
    "none": torch.empty(0, 4),
    "mask": torch.tensor([True, False]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    TENSORS["shared"] = TENSORS["weights"]
    save_tensors(tmp_path / "new" / "a.checkpoint", TENSORS, {"step": 7})
    return tmp_path / "new" / "a.checkpoint"


def test_all_that_was_saved_is_there(path: Path) -> None:
    found = take_up_tensors(path, "Nothing happens.")
    assert found is not None and found[1] == {"step": 7} and found[0].keys() == TENSORS.keys()
    for name, tensor in found[0].items():
        assert tensor.dtype == TENSORS[name].dtype and torch.equal(tensor, TENSORS[name])
    assert [other.name for other in path.parent.iterdir()] == [path.name] and not [*tensors_damages(path)]
    assert take_up_tensors(path.with_name("none"), "") is None
    assert take_up_tensors(path / "none", "") is None


def test_any_flipped_byte_that_is_read_is_found(path: Path) -> None:
    content = path.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    for place in [*range(8, 8 + n_header, 7), *range(8 + n_header, len(content))]:
        if content[place] in b" ":  # alignment, which is not read
            continue
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert [*tensors_damages(path)], place


def test_a_damaged_one_is_named_and_removed(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"a\.checkpoint is corrupt .* is removed\. It is done again\."):
        assert take_up_tensors(path, "It is done again.") is None
    assert not path.exists()


def test_one_in_the_place_of_another_is_found(path: Path) -> None:
    path.rename(path.with_name("b.checkpoint"))
    assert "another name" in next(tensors_damages(path.with_name("b.checkpoint")))


def test_tensors_without_entries_are_kept(tmp_path: Path) -> None:
    """NumPy gives them a stride of 0, by which nothing can be viewed as bytes."""
    empty = torch.from_numpy(np.ascontiguousarray(np.zeros(0, np.int32)))
    save_tensors(tmp_path / "empty", {"none": empty, "rows": torch.zeros(3, 0)}, {})
    found = take_up_tensors(tmp_path / "empty", "")
    assert found is not None
    assert {name: list(tensor.shape) for name, tensor in found[0].items()} == {"none": [0], "rows": [3, 0]}


def test_a_folder_in_its_place_is_out_of_the_way_of_the_next_one(path: Path) -> None:
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="Nothing happens"):
        assert take_up_tensors(path, "Nothing happens.") is None
    save_tensors(path, TENSORS, {"step": 8})
    assert path.is_file() and len(list(path.parent.glob("a.checkpoint.damaged-*"))) == 1
