"""Temporaries of killed processes go after a day; what somebody may still write, and all else, stays."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from harness.files import replacing, temporary_name, write_json
from harness.storage.store import discarded_name
from harness.storage.temporaries import sweep, temporaries

_ROOT = Path(__file__).parents[2]


def _old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - 90_000,) * 2)
    return path


def test_those_of_yesterday_are_removed_and_nothing_else(tmp_path: Path) -> None:
    key = "0" * 32
    gone = [
        _old(temporary_name(tmp_path / "cells" / "00" / f"{key}.json")),
        _old(temporary_name(tmp_path / "suite.yaml")),
        _old(tmp_path / discarded_name(key)),
        _old(tmp_path / ".report.8254"),
        _old(tmp_path / ".report.8254.old"),
        _old(tmp_path / ".calibration-12"),
        _old(tmp_path / "tables" / ".cost.csv.77"),
    ]
    folder = temporary_name(tmp_path / "report")
    (folder / "latents").mkdir(parents=True)
    os.utime(folder, (time.time() - 90_000,) * 2)
    new = temporary_name(tmp_path / "leaderboard.csv")
    new.touch()
    kept = [
        new,
        *map(_old, (tmp_path / ".made.json", tmp_path / "v1.tmp", tmp_path / f".{key}.lock", tmp_path / "a.1")),
    ]
    sweep(tmp_path, depth=2)
    assert not [path for path in (*gone, folder) if path.exists()]
    assert all(path.exists() for path in kept) and not list(temporaries(tmp_path, 2))


def test_one_of_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _old(temporary_name(tmp_path / "a.json"))
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    sweep(tmp_path, depth=0)
    assert path.exists()


def test_a_file_that_a_killed_process_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.json") as temporary:
        temporary.touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        temporary_name(tmp_path / "a.json").touch()  # as of a killed one
        write_json(tmp_path / "a.json", {})
    assert len(list(tmp_path.iterdir())) == 3


def test_no_name_of_a_file_has_a_process_id() -> None:
    sources = [path for folder in ("harness", "plugins") for path in (_ROOT / folder).rglob("*.py")]
    assert not [path for path in sources if re.search(r"f\".*getpid", path.read_text())]
