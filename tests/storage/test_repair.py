"""Files that are missing or cut short are found before a run, without reading; rot is where all is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.planning.plan import Plan
from harness.storage.records import Record
from harness.storage.repair import discard_damaged
from harness.storage.states import states
from harness.storage.store import ARTEFACT_KINDS, Store
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    raw = raw_suite(tmp_path, sites=["resid_post.1"], methods=["atomic"], seeds=[0], similarities=[])
    raw |= {"explainers": ["rule"], "tokens": {"fit": 1000, "evaluation": 200, "interp": 500}}
    return plan_of(raw | {"models": raw["models"][:1]})


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Store:
    """One in which all of the plan is done."""
    store = Store(tmp_path / "results", tmp_path / "cache")
    for key, cell in plan.cells.items():
        store.write_record(key, Record("done"))
        if cell.kind in ARTEFACT_KINDS:
            work = store.work_folder(cell.kind, key)
            work.mkdir(parents=True)
            (work / "a").write_bytes(bytes(1000))
            store.commit(cell.kind, key, {})
    return store


def _rot(store: Store, kind: str, key: str) -> None:
    path = store.artefact(kind, key) / "a"
    before = path.stat()
    path.write_bytes(bytes(999) + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _to_do(plan: Plan, store: Store) -> list[str]:
    return sorted(plan.cells[key].kind for key, state in states(plan, store).items() if state.is_todo)


def test_nothing_is_read_before_a_run(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what cells to do rest on: who uses it reads it."""
    said: list[str] = []
    (fit,), (latents,) = plan.of_kind("fit"), plan.of_kind("latents")
    _rot(store, "fit", fit.key)
    store.record_path(latents.key).unlink()
    store.discard("latents", latents.key)
    monkeypatch.setattr("harness.storage.manifests.computed_digest", None)
    assert not discard_damaged(plan, store, said.append)
    assert not said and _to_do(plan, store) == ["latents"]


def test_all_is_read_if_asked(plan: Plan, store: Store) -> None:
    said: list[str] = []
    (fit,) = plan.of_kind("fit")
    _rot(store, "fit", fit.key)
    discard_damaged(plan, store, said.append, read=True)
    assert len(said) == 1 and str(store.artefact("fit", fit.key) / "a") in said[0]
    assert _to_do(plan, store) == ["fit"]


def test_what_is_missing_is_found_without_reading(plan: Plan, store: Store) -> None:
    said: list[str] = []
    (fit,) = plan.of_kind("fit")
    (store.artefact("fit", fit.key) / "a").unlink()
    discard_damaged(plan, store, said.append)
    assert len(said) == 1 and "is missing" in said[0] and _to_do(plan, store) == ["fit"]
