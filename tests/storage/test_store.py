"""Artefacts appear whole or not at all, damage is found and named, and a full disk leaves nothing half-done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import harness
from harness.files import write_json
from harness.planning.cells import Cell
from harness.storage.manifests import write_manifest
from harness.storage.records import Record, read_record
from harness.storage.store import Store, require

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return Store.of(tmp_path / "results")


def _make(store: Store, text: str = "weights", **manifest: Any) -> Path:
    work = store.work_folder("fit", KEY)
    work.mkdir(parents=True, exist_ok=True)
    (work / "a.txt").write_text(text)
    (work / "b.txt").write_text("more")
    store.commit("fit", KEY, manifest)
    return store.artefact("fit", KEY)


def test_a_record_is_read_again_only_after_it_was_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: str, *, with_rows: bool) -> tuple[Record, bool] | None:
        read.append(path)
        return read_record(path, with_rows=with_rows)

    monkeypatch.setattr("harness.storage.store.read_record", counted)
    assert store.end(KEY) is None and not read
    store.write_record(KEY, Record("done", rows=[{"metric": "l0"}]))
    assert store.end(KEY) == store.end(KEY) == Record("done") and len(read) == 1
    found = store.record(KEY)
    assert found is not None and found.rows == [{"metric": "l0"}] and store.end(KEY) == Record("done")
    assert len(read) == 2
    Store(store.results, store.cache).write_record(KEY, Record("failed", "ValueError", "elsewhere"))
    assert store.end(KEY) == Record("failed", "ValueError", "elsewhere")
    store.record_path(KEY).unlink()
    assert store.end(KEY) is None


def test_an_artefact_appears_whole_by_a_rename(store: Store) -> None:
    work = store.work_folder("fit", KEY)
    work.mkdir(parents=True)
    (work / "a.txt").write_text("half")
    assert store.manifest("fit", KEY) is None and store.damage("fit", KEY) is None
    with pytest.raises(harness.StoreError, match=r"missing or damaged\. Run the suite again"):
        require(store, "fit", KEY)
    (work / ".a.txt.123").write_text("left behind by a crash")
    folder = _make(store, n_rows=3)
    assert not work.exists()
    manifest = store.manifest("fit", KEY)
    assert manifest is not None and manifest["n_rows"] == 3
    assert set(manifest["files"]) == {"a.txt", "b.txt"} == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert store.damage("fit", KEY) is None
    assert require(store, "fit", KEY) == (folder, manifest)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "a.txt").unlink(), "a.txt is missing"),
        (lambda folder: (folder / "a.txt").write_text("weigh"), "a.txt is corrupt"),
        (lambda folder: _flip(folder / "a.txt"), "a.txt is corrupt"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing or corrupt"),
        (lambda folder: (folder / "manifest.json").write_text('{"fil'), "manifest.json is missing or corrupt"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is missing or corrupt"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is missing or corrupt"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "manifest.json is missing or corrupt"),
    ],
)
def test_damage_names_the_file_and_a_new_artefact_takes_its_place(
    store: Store, damage: Callable[[Path], Any], message: str
) -> None:
    folder = _make(store)
    damage(folder)
    found = store.damage("fit", KEY)
    assert found is not None and message in found and str(folder) in found
    if "checksum" not in found:
        assert store.manifest("fit", KEY) is None
    _make(store)  # over the damaged one
    assert store.damage("fit", KEY) is None and store.manifest("fit", KEY) is not None
    store.discard("fit", KEY)
    assert store.damage("fit", KEY) is None and store.manifest("fit", KEY) is None
    assert not list(folder.parent.iterdir())


def test_rot_of_a_large_file_is_found_though_neither_its_size_nor_its_time_tell(store: Store) -> None:
    folder = _make(store, "x" * (2 << 20))
    os.utime(folder / "a.txt", (1, 1))  # so long ago that its checksum might be remembered
    assert store.damage("fit", KEY) is None
    _flip(folder / "a.txt")
    os.utime(folder / "a.txt", (1, 1))
    assert "a.txt is corrupt" in str(store.damage("fit", KEY))
    assert store.damage("fit", KEY, read=False) is None
    with pytest.raises(harness.StoreError, match=r"a\.txt is corrupt .* with --verify: it is made anew"):
        require(store, "fit", KEY)


def test_what_is_used_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _make(store)
    assert require(store, "fit", KEY)[0] == folder
    with monkeypatch.context() as patch:
        patch.setattr("harness.storage.manifests.computed_digest", None)
        assert require(store, "fit", KEY)[0] == folder
    _make(store, "other weights")
    assert require(store, "fit", KEY)[0] == folder


def test_a_file_that_changes_under_its_time_is_read_again(store: Store) -> None:
    folder = _make(store)
    require(store, "fit", KEY)
    before = (folder / "a.txt").stat()
    _flip(folder / "a.txt")
    os.utime(folder / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(harness.StoreError, match=r"a\.txt is corrupt"):
        require(store, "fit", KEY)


def test_one_artefact_in_the_place_of_another_is_found(store: Store) -> None:
    folder = _make(store)
    other = folder.with_name(KEY[::-1])
    folder.rename(other)
    assert store.manifest("fit", other.name) is None
    assert "or of another artefact" in str(store.damage("fit", other.name))
    content = json.loads((other / "manifest.json").read_text())
    for name in ("key", "sha256"):  # earlier versions did not say whose a manifest was
        del content[name]
    write_manifest(other / "manifest.json", content)
    assert store.damage("fit", other.name) is None


def test_of_two_that_make_one_artefact_the_second_waits(store: Store) -> None:
    entered: list[str] = []

    def second() -> None:
        with store.lock("fit", KEY):
            entered.append("second")

    with store.lock("fit", KEY):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        entered.append("first")
    thread.join(10)
    assert entered == ["first", "second"]


def test_a_record_is_whole_or_absent(store: Store) -> None:
    assert store.record(KEY) is None
    record = Record("failed", "ValueError", "bad \n value", "logs/x.txt", [{"a": 1.5}], {"device": "cpu"}, 0.1)
    store.write_record(KEY, record)
    assert store.record(KEY) == record
    path = store.record_path(KEY)
    for broken in ("", '{"status": "do', "[]", "1", '{"status": "done", "colour": 1}', "{}"):
        path.write_text(broken)
        assert store.record(KEY) is None, broken
    path.write_bytes(b"\xff\xfe")
    assert store.record(KEY) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_record_that_can_not_be_written_leaves_the_old_one(store: Store, value: object) -> None:
    store.write_record(KEY, Record("done"))
    with pytest.raises((ValueError, TypeError)):
        store.write_record(KEY, Record("done", rows=[{"value": value}]))
    assert store.record(KEY) == Record("done")
    assert [path.name for path in store.record_path(KEY).parent.iterdir()] == [f"{KEY}.json"]


def test_a_cell_survives_the_way_to_a_worker() -> None:
    cell = Cell("fit", KEY, "label", "group", {"a": [1, {"b": None}]}, {"seed": 0}, ("x", "y"), "why")
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell


def test_a_full_disk_leaves_no_artefact_and_no_record(tmp_path: Path) -> None:
    # The limit on file sizes stands for the full disk: writing beyond it fails half-way, too.
    code = """
        import resource, sys
        from pathlib import Path
        import torch
        from tests.support.parts import rows_of_text
        from harness import StoreError
        from harness.storage.activation_store import shard_name, write_shard
        from harness.storage.records import Record
        from harness.storage.store import Store

        root = Path(sys.argv[1])
        store = Store(root / "results", root / "cache")
        work = store.work_folder("capture", "k")
        work.mkdir(parents=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        errors = []
        for step in (
            lambda: write_shard(work, 0, torch.zeros(1000, 100), rows_of_text(1000)),
            lambda: store.commit("capture", "k", {"cost": "x" * 50_000}),
            lambda: store.write_record("k", Record("done", log="x" * 50_000)),
        ):
            try:
                step()
            except StoreError as error:
                errors.append(str(error))
        assert len(errors) == 3, errors
        assert all("can't write" in error and "ulimit -f" in error for error in errors), errors
        assert not (work / shard_name(0)).exists()
        assert store.record("k") is None and store.manifest("capture", "k") is None
        assert not store.artefact("capture", "k").exists()
        left = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert not left, left
    """
    command = [sys.executable, "-c", dedent(code), str(tmp_path)]
    folder = Path(__file__).parents[2]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr


def test_json_is_written_with_one_rename(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    inode = path.stat().st_ino
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2} and path.stat().st_ino != inode
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_in_the_place_of_verdicts_is_none(store: Store) -> None:
    store.verdicts_path("a" * 32).mkdir(parents=True)
    assert store.verdicts_digest("a" * 32) is None
