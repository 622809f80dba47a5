"""Seals: a file is taken up as it was sealed, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.storage.sealed_files import seal, take_up

ABOUT = {"n_rows": 3, "seconds": 0.1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"rows" * 100)
    seal(path, ABOUT)
    return path


def test_a_file_is_taken_up_with_what_is_known_about_it(path: Path) -> None:
    said: list[str] = []
    assert take_up(path, said.append) == ABOUT and path.exists() and not said
    assert take_up(path.with_name("other"), said.append) is None and not said


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its checksum differs"),
        (lambda path: path.write_bytes(b""), "its checksum differs"),
        (lambda path: path.with_name(".file.seal").unlink(), "it has no valid seal"),
        (lambda path: path.with_name(".file.seal").write_text("[]"), "it has no valid seal"),
        (lambda path: path.with_name(".file.seal").write_text('{"checksum": NaN, "of": NaN}'), "it has no valid seal"),
    ],
)
def test_a_damaged_one_is_named_and_set_aside(path: Path, harm: object, why: str) -> None:
    said: list[str] = []
    harm(path)  # type: ignore[operator]
    left = path.read_bytes()
    assert take_up(path, said.append) is None
    assert said == [f"{path}, left by a run that was broken off, is set aside ({why}); it is made again"]
    assert not path.exists() and path.with_name(".file.damaged").read_bytes() == left
    path.write_bytes(b"again")
    seal(path, {})
    assert take_up(path, said.append) == {} and len(said) == 1


def test_a_folder_in_its_place_is_kept_where_it_becomes_no_part_of_what_is_made(path: Path) -> None:
    said: list[str] = []
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("text")
    assert take_up(path, said.append) is None and "is set aside (it is no file)" in said[0]
    assert [kept.read_text() for kept in path.parents[1].glob("file.damaged-*/mine")] == ["text"]
    assert not path.exists()


@settings(deadline=None)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), of_seal=st.booleans())
def test_no_flipped_bit_is_believed(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, of_seal: bool
) -> None:
    path = tmp_path_factory.mktemp("flip") / "file"
    path.write_bytes(b"rows" * 100)
    seal(path, ABOUT)
    flipped = path.with_name(".file.seal") if of_seal else path
    content = bytearray(flipped.read_bytes())
    content[place % len(content)] ^= 1 << bit
    flipped.write_bytes(content)
    assert take_up(path, lambda text: None) is None


def test_a_file_under_anothers_name_is_not_believed(path: Path) -> None:
    """Not with its seal, either, nor in another folder."""
    elsewhere = path.parent / "folder" / "file"
    elsewhere.parent.mkdir()
    for other in (path.with_name("other"), elsewhere):
        for name in ("{}", ".{}.seal"):
            other.with_name(name.format(other.name)).write_bytes(path.with_name(name.format("file")).read_bytes())
        assert take_up(other, lambda text: None) is None
    entry = json.loads(path.with_name(".file.seal").read_text())
    assert entry["of"] == f"{path.parent.name}/file" and take_up(path, lambda text: None) == ABOUT
