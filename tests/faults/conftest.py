"""Fixtures of the campaigns' short forms."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.subject import Subject, made
from tests.support.shared import once
from tests.support.warm import BEGIN


@pytest.fixture
def popen(
    warm_popen: type[subprocess.Popen], warm_workers: None, monkeypatch: pytest.MonkeyPatch
) -> type[subprocess.Popen]:
    """In place of `subprocess.Popen`, for processes that meet faults from inside, started here or by others."""
    monkeypatch.setenv(BEGIN, "tests.faults.inside")
    return warm_popen


@pytest.fixture
def whole(popen: type[subprocess.Popen], shared_folder: Path) -> Subject:
    """The finished subject, made once for all test processes. It is for all: work on a copy."""
    folder = once(shared_folder / "faults", lambda folder: made(folder / "whole") and None) / "whole"
    return Subject(folder)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: trials write much and keep nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
