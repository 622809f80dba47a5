"""`harness verify` reads everything, names each damaged file with what to do next, and changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.asking.response_cache import ResponseCache
from harness.cli import main as cli
from harness.storage.records import Record
from harness.storage.sealed_files import seal
from harness.storage.store import Store
from harness.storage.tensor_files import save_tensors

KEY, OTHER = "0123456789abcdef" * 2, "f" * 32


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One with an artefact, a checkpoint, a broken-off capture, a record, a model, a trained one, and answers."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    store = Store.of(tmp_path / "results" / "mine")
    for key in (KEY, OTHER):
        work = store.work_folder("capture", key)
        work.mkdir(parents=True)
        for name in ("a", "b"):
            (work / name).write_text("rows")
        store.commit("capture", key, {})
    store.write_record(KEY, Record("done"))
    save_tensors(store.checkpoint("fit", KEY), {"x": torch.zeros(3)}, None)
    work = store.work_folder("capture", KEY)
    work.mkdir()
    for number in range(2):
        (work / f"shard-{number}.safetensors").write_text("rows")
    seal(work / "shard-0.safetensors", {})  # the other one was just being written
    harness.made_once("converted", lambda folder: (folder / "weights").touch())
    step = store.cache / "models" / "seedling-1" / "step-0"
    step.mkdir(parents=True)
    (step / "weights").touch()
    harness.seal_folder(step, "seedling-1/step-0")
    ResponseCache(store.cache / "judges", {"name": "scripted"}).keep(harness.Likelihood("", "a"), [0.5, 1.0])
    return store


def _change_an_answer(store: Store) -> None:
    with closing(sqlite3.connect(store.cache / "judges" / "responses.sqlite")) as file, file:
        file.execute("update responses set response = replace(response, '0.5', '0.7')")


def verify(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = cli.main(["verify", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", [(), ("cache",), ("suite=mine",), ("results/mine",)])
def test_a_whole_cache_is_said_to_be_whole(
    words: tuple[str, ...], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = verify(capsys, *words)
    n_artefacts, n_records = 2 if words in ((), ("cache",)) else 1, words != ("cache",)
    assert code == 0 and found == {
        "read": n_artefacts + n_records + 5,  # a checkpoint, a shard, two models, the answers
        "damaged": [],
        "without_checksums": [],
    }
    assert cli.main(["verify", *words]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


DAMAGES: dict[str, Callable[[Store], object]] = {
    "capture": lambda store: [(store.artefact("capture", KEY) / name).write_text("rowz") for name in "ab"],
    "checkpoint": lambda store: store.checkpoint("fit", KEY).write_bytes(b"x"),
    "shard": lambda store: (store.work_folder("capture", KEY) / "shard-0.safetensors").write_text("rowz"),
    "record": lambda store: store.record_path(KEY).write_text("{"),
    "verdicts": lambda store: store.verdicts_path(KEY).touch(),
    "model": lambda store: (store.cache / "models" / "converted" / "pytorch_model.bin").touch(),
    "answers": lambda store: (store.cache / "judges" / "responses.sqlite").write_bytes(b"no database" * 100),
    "answers, one of them": _change_an_answer,
}


def _files() -> dict[Path, bytes]:
    """The contents of all files but of those that SQLite has beside its own while it reads."""
    paths = (path for path in Path.cwd().rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_damaged_file_is_named_with_what_to_do(
    kind: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[kind](store)
    before = _files()
    code, found = verify(capsys)
    assert code == 1 and {damage["kind"] for damage in found["damaged"]} == {kind.partition(",")[0]}
    assert len(found["damaged"]) == (2 if kind == "capture" else 1)
    assert cli.main(["verify", "suite=mine"]) == 1
    told = capsys.readouterr().err
    for damage in found["damaged"]:
        assert damage["path"] in damage["text"] and damage["text"] in told and damage["then"] in told
    assert _files() == before


def test_models_without_checksums_are_listed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store.cache / "models" / "converted"
    (folder / ".seal").unlink()
    assert verify(capsys, "cache")[1]["without_checksums"] == [str(folder)]
    assert cli.main(["verify", "cache"]) == 0
    assert f"not checked, as an earlier version has made them without checksums: {folder}" in capsys.readouterr().err


def test_results_that_are_not_there_are_an_error(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "suite=other"]) == 2
    assert "'suite=other' has no results" in capsys.readouterr().err
