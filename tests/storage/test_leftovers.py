"""Leftovers are what no plan needs, by names that the store gives; nothing else is ever listed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.planning.plan import Plan
from harness.storage.checksums import file_digest
from harness.storage.leftovers import Kept, leftovers
from harness.storage.made_once import made_once
from harness.storage.plans_at_work import at_work
from harness.storage.records import Record
from harness.storage.store import ARTEFACT_KINDS, Store
from tests.support.toy_suites import plan_of, raw_suite

STRANGE = "f" * 32


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    raw = raw_suite(tmp_path, sites=["resid_post.1"], methods=["atomic"], seeds=[0], similarities=[])
    return plan_of(raw | {"models": raw["models"][:1]})


def _do(plan: Plan, store: Store, *kinds: str) -> None:
    for key, cell in plan.cells.items():
        if cell.kind in kinds:
            store.write_record(key, Record("done"))
        if cell.kind in kinds and cell.kind in ARTEFACT_KINDS:
            _commit(store, cell.kind, key)


def _commit(store: Store, kind: str, key: str) -> Path:
    work = store.work_folder(kind, key)
    work.mkdir(parents=True)
    (work / "a").write_bytes(bytes(1000))
    store.commit(kind, key, {})
    return store.artefact(kind, key)


def _found(store: Store, *plans: Plan, **options: bool) -> dict[str, str]:
    """Kinds by path; everything in the cache stays as it is."""
    kept = Kept()
    for plan in plans:
        kept.add(plan, store)
    before = sorted(store.cache.rglob("*"))
    found = list(leftovers(store.cache, kept, **options))
    assert sorted(store.cache.rglob("*")) == before
    return {str(one.path.relative_to(store.cache)): one.kind for one in found}


def test_what_a_plan_needs_is_kept(plan: Plan, store: Store) -> None:
    _do(plan, store, "capture", "fit")
    strange = _commit(store, "fit", STRANGE)
    assert _found(store, plan) == {f"fits/{STRANGE}": "fit"}
    assert len(_found(store)) == 1 + len(plan.of_kind("capture")) + 1
    sizes = [one.n_bytes for one in leftovers(store.cache, Kept()) if one.path == strange]
    assert sizes == [sum(path.stat().st_size for path in strange.iterdir())]


def test_captures_are_needed_until_all_that_rests_on_them_is_done(plan: Plan, store: Store) -> None:
    _do(plan, store, "capture", "fit")
    assert _found(store, plan, captures=True) == {}  # evaluations are to do
    _do(plan, store, "evaluation")
    captures = {f"activations/{cell.key}": "capture" for cell in plan.of_kind("capture")}
    assert _found(store, plan, captures=True) == captures
    assert _found(store, plan) == {}
    store.write_record(plan.of_kind("evaluation")[0].key, Record("failed", "ValueError", "tried again"))
    assert _found(store, plan, captures=True) == {}


def test_unfinished_work_is_kept_as_long_as_a_run_would_go_on_with_it(plan: Plan, store: Store) -> None:
    (fit,) = plan.of_kind("fit")
    for key in (fit.key, STRANGE):
        store.work_folder("fit", key).mkdir(parents=True)
        store.checkpoint("fit", key).write_text("x")
        store.checkpoint("fit", key).with_name(f".{key}.checkpoint.partial").write_text("x")
    strange = {
        f"fits/.{STRANGE}.checkpoint": "checkpoint",
        f"fits/.{STRANGE}.checkpoint.partial": "checkpoint",
        f"fits/.{STRANGE}.partial": "partial",
    }
    assert _found(store, plan) == strange
    store.artefact("fit", fit.key).mkdir()
    assert _found(store, plan) == strange | {path.replace(STRANGE, fit.key): kind for path, kind in strange.items()}


def test_what_crashes_left(plan: Plan, store: Store) -> None:
    (fit,) = plan.of_kind("fit")
    folder = store.cache / "fits"
    (folder / f".{fit.key}.discarded-1234").mkdir(parents=True)
    (folder / f".{fit.key}.partial.discarded-ab12cd34").mkdir()
    with store.lock("fit", fit.key):
        pass
    assert set(_found(store, plan).values()) == {"discarded", "lock"}
    assert len(_found(store, plan)) == 3


def test_strangers_are_never_listed(plan: Plan, store: Store, tmp_path: Path) -> None:
    for name in ("notes.txt", STRANGE[:-1], STRANGE.upper(), f".{STRANGE}.backup", f"{STRANGE}.partial", ".git"):
        for kind in ARTEFACT_KINDS.values():
            (store.cache / kind / name).mkdir(parents=True)
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    (store.cache / "fits" / STRANGE).symlink_to(elsewhere)
    for name in ("judges/responses.sqlite", "timings.json", "checksums/mine.json", f"other/{STRANGE}", "models/m/x"):
        (store.cache / name).parent.mkdir(parents=True, exist_ok=True)
        (store.cache / name).write_text("mine")
    (store.cache / "models" / ".my-weights").mkdir()
    (store.cache / "models" / ".mine-abcd1234").mkdir()  # named like a partial one, but nothing was made there
    assert _found(store, plan, captures=True, models=True) == {}


def test_checksums_of_files_that_are_gone_or_have_changed(store: Store, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("same", "gone", "changed")]
    for file in files:
        file.write_bytes(bytes(2 << 20))
        os.utime(file, (1, 1))
        file_digest(file)
    checksums = store.cache / "checksums"
    names = {Path(json.loads(path.read_text())["path"]).name: f"checksums/{path.name}" for path in checksums.iterdir()}
    assert set(names) == {"same", "gone", "changed"}
    files[1].unlink()
    files[2].write_bytes(bytes(3 << 20))
    (checksums / f"{STRANGE}.json").write_text('{"stamp": [1, 2], "sha256": "of an earlier version"}')
    (checksums / f"{STRANGE}.json.123").write_text("broken off")
    assert set(_found(store)) == {
        names["gone"],
        names["changed"],
        f"checksums/{STRANGE}.json",
        f"checksums/{STRANGE}.json.123",
    }


def test_models_that_are_made_again(store: Store) -> None:
    made_once("converted.v1", lambda folder: (folder / "weights").touch())
    with pytest.raises(KeyError):
        made_once("broken", lambda folder: (folder / "nothing").touch() or {}["x"])  # type: ignore[func-returns-value]
    (store.cache / "models" / "trained").mkdir()
    (store.cache / "models" / ".converted.v1-k3_x9abc").mkdir()
    assert _found(store) == {"models/.converted.v1-k3_x9abc": "partial"}
    assert _found(store, models=True) == {
        "models/.converted.v1-k3_x9abc": "partial",
        "models/converted.v1": "model",
    }
    with at_work(store.cache, [STRANGE]):  # it may load any of them
        assert _found(store, models=True) == {}


def test_the_word_of_a_killed_owner_of_a_models_lock_goes(store: Store) -> None:
    (store.cache / "models").mkdir(parents=True)
    for name in ("converted.lock", "converted.lock.owner"):
        (store.cache / "models" / name).touch()
    assert _found(store) == {"models/converted.lock.owner": "lock"}


def test_what_a_run_at_work_rests_on_is_kept(store: Store) -> None:
    _commit(store, "fit", STRANGE)
    store.work_folder("capture", STRANGE).mkdir(parents=True)
    with at_work(store.cache, [STRANGE]):
        assert _found(store, captures=True, models=True) == {}
    assert len(_found(store)) == 2
