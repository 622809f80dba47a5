"""A model's folder is made once, and made again where a file of it is not as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.storage.seals import SEAL
from tests.support.another_user import needs_another_user, run_as_another


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return tmp_path / "models"


def make(folder: Path) -> None:
    (folder / "weights").write_bytes(bytes(100))
    (folder / "weights").chmod(0o600)  # as safetensors leaves it
    (folder / "templates").mkdir()
    (folder / "templates" / "chat").write_text("hello")


def is_as_made(folder: Path) -> bool:
    names = sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return names == ["chat", "weights"] and (folder / "weights").read_bytes() == bytes(100)


def refuse(folder: Path) -> None:
    raise AssertionError("made twice")


def flip(path: Path) -> None:
    """Change a byte, as rot does: neither size nor time tell."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_it_is_made_once_with_the_modes_of_the_umask(models: Path) -> None:
    script = "import harness, tests.storage.test_made_once as own; harness.made_once('a.v1', own.make)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2], umask=0o027)
    folder = harness.made_once("a.v1", refuse)
    assert folder == models / "a.v1" and is_as_made(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [models, folder, *folder.rglob("*")]}
    assert {name: mode for name, mode in modes.items() if mode != 0o640} == {
        "models": 0o750,
        "a.v1": 0o750,
        "templates": 0o750,
    }
    assert harness.made_once("a.v1", refuse) == folder
    assert {path.name for path in models.iterdir()} == {"a.v1", "a.v1.lock"}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: flip(folder / "weights"), "weights is corrupt"),
        (lambda folder: (folder / "weights").write_bytes(bytes(99)), "weights is corrupt"),
        (lambda folder: (folder / "templates" / "chat").unlink(), "chat is missing"),
        (lambda folder: flip(folder / SEAL), ".seal is corrupt"),
        (lambda folder: (folder / SEAL).write_text("[]"), ".seal is corrupt"),
        (lambda folder: (folder / SEAL).unlink(), "an earlier version has made it"),
        (lambda folder: shutil.copy(folder.with_name("b") / SEAL, folder), ".seal is corrupt, or of another folder"),
    ],
)
def test_a_damaged_one_is_named_and_made_again(damage: Callable[[Path], object], named: str, models: Path) -> None:
    folder = harness.made_once("a", make)
    harness.made_once("b", make)
    damage(folder)
    with pytest.warns(UserWarning, match="the model was made again") as warned:
        assert harness.made_once("a", make) == folder
    assert named in str(warned[0].message) and str(folder) in str(warned[0].message)
    assert is_as_made(folder) and harness.made_once("a", refuse) == folder
    assert {path.name for path in models.iterdir()} == {"a", "a.lock", "b", "b.lock"}


def test_a_file_of_somebody_else_is_kept_but_never_read(models: Path) -> None:
    folder = harness.made_once("a", make)
    (folder / ".nfs0001").touch()  # hidden ones are of file systems and the like
    assert harness.made_once("a", refuse) == folder
    (folder / "pytorch_model.bin").write_text("mine")
    with pytest.warns(UserWarning, match=r"pytorch_model\.bin was put there by somebody.* is kept as .*aside-"):
        harness.made_once("a", make)
    assert is_as_made(folder)
    (aside,) = models.glob(".a.aside-*")
    assert (aside / "pytorch_model.bin").read_text() == "mine"


def test_a_folder_put_in_its_place_is_kept(models: Path) -> None:
    (models / "a").mkdir(parents=True)
    (models / "a" / "mine").touch()
    with pytest.warns(UserWarning, match="is kept as"):
        assert is_as_made(harness.made_once("a", make))
    assert len(list(models.glob(".a.aside-*/mine"))) == 1


def test_a_making_that_fails_leaves_the_damaged_one_for_the_next(models: Path) -> None:
    folder = harness.made_once("a", make)
    flip(folder / "weights")
    with pytest.raises(AssertionError, match="made twice"):
        harness.made_once("a", refuse)
    assert {path.name for path in models.iterdir()} == {"a", "a.lock"}
    with pytest.warns(UserWarning, match="made again"):
        assert is_as_made(harness.made_once("a", make))


KILLED = """
import os, sys, harness

def make(folder):
    (folder / "half").touch()
    os.kill(os.getpid(), 9)

harness.made_once(sys.argv[1], make)
"""


def test_what_killed_processes_left_is_swept(models: Path) -> None:
    for name in ("a", "old", "young"):
        subprocess.run([sys.executable, "-c", KILLED, name], check=False)
    (models / ".mine-abcd1234").mkdir()
    left = {path.name.rpartition("-")[0]: path for path in models.glob(".*-*")}
    assert set(left) == {".a", ".old", ".young", ".mine"}
    (left[".a"] / ".made_once").touch()  # killed a moment before it got its name
    os.utime(left[".old"], (1, 1))
    os.utime(left[".young"], (2**33, 2**33))  # by a clock that goes ahead
    os.utime(left[".mine"], (1, 1))
    harness.made_once("a", make)
    assert {path for path in models.glob(".*-*") if path.is_dir()} == {left[".young"], left[".mine"]}


@needs_another_user
def test_a_cache_that_can_not_be_written_is_read(models: Path) -> None:
    folder = harness.made_once("a", make)
    script = "import harness; print(harness.made_once('a', None))"
    found = run_as_another(script)
    assert found.stdout.strip() == str(folder) and not found.stderr
    flip(folder / "weights")
    found = run_as_another(script)
    assert "weights is corrupt" in found.stderr and "can't be written: whose it is can" in found.stderr
    (folder / SEAL).unlink()  # as an earlier version left it
    found = run_as_another(script)
    assert found.stdout.strip() == str(folder) and "it is used as it is" in found.stderr
