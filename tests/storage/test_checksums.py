"""Checksums of files, remembered for large ones."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

import harness

LARGE_BYTES = 3 << 20


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(path: Path, content: bytes, age_seconds: float = 60) -> Path:
    path.write_bytes(content)
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))
    return path


def memories(cache: Path) -> list[Path]:
    return list((cache / "checksums").glob("*")) if cache.exists() else []


@pytest.mark.parametrize("n_bytes", [0, 10, LARGE_BYTES])
def test_it_is_the_sha256(n_bytes: int, cache: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "file", b"x" * n_bytes)
    expected = hashlib.sha256(b"x" * n_bytes).hexdigest()
    assert harness.file_digest(path) == harness.file_digest(str(path)) == expected
    assert len(memories(cache)) == (n_bytes == LARGE_BYTES)


def test_a_remembered_one_is_used_until_the_file_changes(cache: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "file", b"x" * LARGE_BYTES)
    first = harness.file_digest(path)
    (memory,) = memories(cache)
    memory.write_text(memory.read_text().replace(first, "remembered"))
    assert harness.file_digest(path) == "remembered"  # so the file was not read again
    make(path, b"y" * LARGE_BYTES, age_seconds=30)
    assert harness.file_digest(path) == hashlib.sha256(b"y" * LARGE_BYTES).hexdigest()


@pytest.mark.parametrize("age_seconds", [0, -3600])  # the latter by a disk whose clock is ahead
def test_a_file_just_written_is_not_trusted_to_stay(age_seconds: float, cache: Path, tmp_path: Path) -> None:
    harness.file_digest(make(tmp_path / "file", b"x" * LARGE_BYTES, age_seconds))
    assert memories(cache) == []


def test_a_change_that_puts_the_time_back_is_seen(cache: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "file", b"x" * LARGE_BYTES)
    before = path.stat()
    assert harness.file_digest(path) == hashlib.sha256(b"x" * LARGE_BYTES).hexdigest() and memories(cache)
    path.write_bytes(b"y" * LARGE_BYTES)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert harness.file_digest(path) == hashlib.sha256(b"y" * LARGE_BYTES).hexdigest()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"stamp": null}'])
def test_a_damaged_memory_is_made_anew(damage: str, cache: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "file", b"x" * LARGE_BYTES)
    expected = harness.file_digest(path)
    memories(cache)[0].write_text(damage)
    assert harness.file_digest(path) == expected


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "occupied"))
    path = make(tmp_path / "file", b"x" * LARGE_BYTES)
    assert harness.file_digest(path) == hashlib.sha256(b"x" * LARGE_BYTES).hexdigest()
