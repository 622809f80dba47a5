"""Files that take the place of others."""

from __future__ import annotations

from pathlib import Path

from harness.files import write_json


def test_a_folder_where_a_file_belongs_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.mkdir()
    (path / "inside").touch()
    write_json(path, [1])
    assert path.read_text() == "[1]"
    (aside,) = (other for other in tmp_path.iterdir() if other != path)
    assert (aside / "inside").exists() and aside.name.startswith(".table.json.") and aside.suffix == ".tmp"
