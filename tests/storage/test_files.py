"""Files that take the place of others, and what stands where one belongs."""

from __future__ import annotations

import os
from pathlib import Path

from harness.files import write_json
from harness.storage.manifests import read_manifest
from harness.storage.temporaries import sweep


def test_a_folder_where_a_file_belongs_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.mkdir()
    (path / "inside").touch()
    os.utime(path, (1, 1))
    write_json(path, [1])
    assert path.read_text() == "[1]"
    sweep(tmp_path, depth=1)  # it is no temporary, old as it is
    (aside,) = (other for other in tmp_path.iterdir() if other != path)
    assert (aside / "inside").exists() and aside.name.startswith("table.json.damaged-")


def test_a_manifest_that_is_no_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.symlink_to(path)
    assert read_manifest(path) is None
    path.unlink()
    path.mkdir()
    assert read_manifest(path) is None
