"""A record is used as it was written, by the cell it was written for, beside what it was made from; or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.storage.records import Damaged, Record, cost, read_record, stamp_of, write_record
from harness.storage.store import Store

KEY, FIT, OTHER = "0" * 32, "f" * 32, "1" * 32
RECORD = Record(
    "done",
    rows=[cost("fit_seconds", 1.5, 3), {**cost("rows", 12, 3), "rows": [1]}],
    provenance={"device": "cpu", "versions": {"torch": "2.13"}},
    seconds=0.25,
    error='a text, "rows": [',
    made_from={f"fits/{FIT}": "a" * 32},
)
_EARLIER = {name: value for name, value in vars(RECORD).items() if name not in ("made_from", "verdicts")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / f"{KEY}.json"
    write_record(path, RECORD)
    return path


def test_a_record_is_read_as_it_was_written(path: Path) -> None:
    assert read_record(path) == (RECORD, True)
    assert read_record(path, with_rows=False) == (replace(RECORD, rows=[]), True)
    assert read_record(path.with_name("none.json")) is None


def test_every_flipped_bit_of_a_record_is_seen(path: Path) -> None:
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(Damaged):
            read_record(path, with_rows=place % 2 == 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text.replace('"checksum"', '"checksun"'),
        lambda text: text[: text.rindex(', "checksum"')] + "}",
        lambda text: "[" * 100_000,
        lambda text: "null",
    ],
)
def test_a_record_that_lost_its_checksum_is_none_of_an_earlier_version(
    path: Path, damage: Callable[[str], str]
) -> None:
    path.write_text(damage(path.read_text()))
    with pytest.raises(Damaged):
        read_record(path)


def test_a_record_of_another_cell_is_seen(path: Path) -> None:
    other = path.with_name(f"{OTHER}.json")
    shutil.copy(path, other)
    with pytest.raises(Damaged):
        read_record(other)


def test_records_of_the_version_before_are_read(path: Path) -> None:
    path.write_text(json.dumps(_EARLIER))
    assert read_record(path) == (replace(RECORD, made_from={}), False)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "dooe"},
        {"rows": [{"table": "cost", "metric": "l0", "value": "1", "reason": None}]},
        {"rows": [{"tabel": "cost", "metric": "l0", "value": 1, "reason": None}]},
        {"rows": [3]},
        {"provenance": {"versions": ["torch"]}},
        {"seconds": "1"},
        {"sekonds": 1},
    ],
)
def test_what_does_not_fit_is_no_record_of_the_version_before(path: Path, change: dict[str, object]) -> None:
    path.write_text(json.dumps({**_EARLIER, **change}))
    with pytest.raises(Damaged):
        read_record(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


def _make(store: Store, text: str, kind: str = "fit", key: str = FIT) -> None:
    work = store.work_folder(kind, key)
    work.mkdir(parents=True)
    (work / "a.txt").write_text(text)
    store.commit(kind, key, {"made_from": store.made_from([FIT])} if kind != "fit" else {})


def test_a_record_is_of_no_use_once_its_fit_is_another_one(store: Store) -> None:
    _make(store, "weights")
    store.write_record(KEY, replace(RECORD, made_from=store.made_from([FIT])))
    assert store.end(KEY) is not None and not store.damaged
    store.discard("fit", FIT)
    assert store.end(KEY) is not None  # freed: it is not known to be another one
    _make(store, "weights")
    assert store.end(KEY) is not None  # made anew, with the same bytes
    store.discard("fit", FIT)
    _make(store, "other weights")
    assert store.end(KEY) is None is store.record(KEY)
    assert f"{KEY}.json was made from fits/{FIT}" in store.damaged[KEY]
    store.write_record(KEY, replace(RECORD, made_from=store.made_from([FIT])))
    assert store.end(KEY) is not None and not store.damaged


def test_an_artefact_is_of_no_use_once_its_fit_is_another_one(store: Store) -> None:
    _make(store, "weights")
    _make(store, "cards", "latents", KEY)
    assert store.manifest("latents", KEY) is not None
    store.discard("fit", FIT)
    _make(store, "other weights")
    assert store.manifest("latents", KEY) is None


def test_a_record_rests_on_all_that_those_before_it_rest_on(store: Store) -> None:
    _make(store, "weights")
    of_fit = store.made_from([FIT])
    store.write_record(OTHER, replace(RECORD, made_from=of_fit))
    assert store.made_from([OTHER]) == of_fit and list(of_fit) == [f"fits/{FIT}"]


def test_a_damaged_record_is_named_and_set_aside(store: Store) -> None:
    store.write_record(KEY, RECORD)
    path = store.record_path(KEY)
    content = path.read_bytes().replace(b"1.5", b"9.5")
    path.write_bytes(content)
    assert store.record(KEY) is None is store.end(KEY)
    assert store.damaged == {KEY: f"{path} is damaged: its checksum differs"}
    store.set_record_aside(KEY)
    (aside,) = path.parent.iterdir()
    assert aside.name.startswith(f"{KEY}.json.damaged-") and aside.read_bytes() == content
    assert store.end(KEY) is None and not store.damaged


def test_a_link_that_leads_to_itself_is_no_file(tmp_path: Path) -> None:
    link = tmp_path / "a.json"
    link.symlink_to(link.name)
    assert stamp_of(str(link)) is None
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        stamp_of(str(tmp_path / "file" / "a.json"))
