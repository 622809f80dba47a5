"""Workers elsewhere see by a file whether they have the same cache, unless nobody can write one there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.running.checkout import check_same, made_with, put_probe
from harness.storage.store import Store
from tests.support.toy_suites import plan_of, raw_suite


def test_another_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = plan_of(raw_suite(tmp_path)), Store(tmp_path / "results", tmp_path / "cache")
    made = made_with(plan, store)
    put_probe(made, store)
    check_same(made, plan, store)
    other = Store(tmp_path / "results", tmp_path / "other")
    for _ in range(2):
        with pytest.raises(ConfigError, match="is not the folder that the run uses"):
            check_same(made, plan, other)
        other.cache.mkdir(exist_ok=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check_same(made, plan, other)  # nobody could have put one there


def test_a_cache_that_can_not_be_written_has_no_probe(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    plan, store = plan_of(raw_suite(tmp_path)), Store(tmp_path / "results", tmp_path / "cache")
    put_probe(made_with(plan, store), store)
