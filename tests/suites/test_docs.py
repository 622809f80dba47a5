"""The tutorial and the how-to are followed to the letter; the reference is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from documents import Reader

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["tutorial.md"])
def test_a_reader_gets_through(name: str, tmp_path: Path, shared_cache: Path) -> None:
    Reader(tmp_path, shared_cache).follow(DOCS / name)
