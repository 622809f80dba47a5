"""Whatever a run is about to use is read first, and made again where it is damaged; the rest is left unread."""

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


def test_what_is_needed_is_read(plan: Plan, store: Store) -> None:
    said: list[str] = []
    (fit,), captures = plan.of_kind("fit"), plan.of_kind("capture")
    for cell in [fit, *captures]:
        _rot(store, cell.kind, cell.key)
    discard_damaged(plan, store, said.append)
    assert not said and _to_do(plan, store) == []  # nothing is to do, so nothing is used

    (explanation,) = plan.of_kind("explanation")
    store.record_path(explanation.key).unlink()
    store.discard("explanation", explanation.key)
    discard_damaged(plan, store, said.append)
    # The explanation rests on the fit and not on its rows; but to be made again, the fit needs these.
    (of_fit,) = (cell for cell in captures if cell.key in fit.upstream)
    assert len(said) == 2 and fit.label in said[0] and of_fit.label in said[1]
    assert all("its checksum differs" in text for text in said)
    assert _to_do(plan, store) == ["capture", "explanation", "fit"]
    assert not store.artefact("fit", fit.key).exists()


@pytest.mark.parametrize("kind", ["latents", "explanation"])
def test_what_results_show_is_read_too(kind: str, plan: Plan, store: Store) -> None:
    said: list[str] = []
    (cell,) = plan.of_kind(kind)
    _rot(store, kind, cell.key)
    discard_damaged(plan, store, said.append)
    assert len(said) == 1 and cell.label in said[0] and _to_do(plan, store) == [kind]


def test_all_is_read_if_asked(plan: Plan, store: Store) -> None:
    said: list[str] = []
    (fit,) = plan.of_kind("fit")
    _rot(store, "fit", fit.key)
    discard_damaged(plan, store, said.append, read_all=True)
    assert len(said) == 1 and str(store.artefact("fit", fit.key) / "a") in said[0]
    assert _to_do(plan, store) == ["fit"]


def test_what_is_missing_is_found_without_reading(plan: Plan, store: Store) -> None:
    said: list[str] = []
    (fit,) = plan.of_kind("fit")
    (store.artefact("fit", fit.key) / "a").unlink()
    discard_damaged(plan, store, said.append)
    assert len(said) == 1 and "is missing" in said[0] and _to_do(plan, store) == ["fit"]
