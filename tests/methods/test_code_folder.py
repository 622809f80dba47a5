"""Compiled code is read only from folders that nobody else can write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.plugins.methods import code_folder
from harness.plugins.methods.code_folder import others_may_write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "above" / "own").mkdir(parents=True)
    for path in (tmp_path / "above", tmp_path / "above" / "own"):
        path.chmod(0o755)
    return tmp_path / "above" / "own"


def test_a_folder_of_ones_own(folder: Path) -> None:
    assert not others_may_write(folder)
    assert not others_may_write(folder / "not" / "there" / "yet")


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_open_to_others(mode: int, folder: Path) -> None:
    folder.chmod(mode)
    assert others_may_write(folder)
    assert others_may_write(folder / "not" / "there")


def test_a_folder_whose_name_others_may_take(folder: Path) -> None:
    folder.parent.chmod(0o777)
    assert others_may_write(folder)
    folder.parent.chmod(0o1777)  # as /tmp
    assert not others_may_write(folder)
    assert not others_may_write(folder.parent / "not" / "there")


def test_a_group_of_several(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o775)
    for is_alone in (True, False):
        monkeypatch.setattr(code_folder, "_is_alone_in", lambda group, found=is_alone: found)
        assert others_may_write(folder) is not is_alone


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user(folder: Path) -> None:
    os.chown(folder, 12345, 12345)
    assert others_may_write(folder)


def test_numba_reads_nothing_that_others_may_have_put_there(folder: Path) -> None:
    folder.chmod(0o777)
    code = "import harness.plugins.methods.cpu.compilation as compiled; print(compiled.dot.stats.cache_path)"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "None" and not list(folder.rglob("*.nb*"))
    assert f"others may write in {folder}" in done.stderr and "nobody else" in done.stderr
