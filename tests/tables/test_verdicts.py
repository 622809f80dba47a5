"""Which window of a card a verdict is about; and files of verdicts, read as they were written or not at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import harness
from harness.errors import StoreError
from harness.storage.records import Record
from harness.storage.store import Store
from harness.tables.verdicts import WindowPlaces, damage, read_cell, write_cell

KEY = "0" * 32


def _window(activation: float, document: str = "d") -> harness.LatentWindow:
    return harness.LatentWindow(document, (" a", " b"), (0.0, activation), activation > 0, "random")


def _place(window: harness.LatentWindow, *windows: harness.LatentWindow) -> int:
    found: int = WindowPlaces(windows).row(harness.Verdict(window, True, True))["window"]
    return found


def test_windows_of_like_text_are_told_apart() -> None:
    windows = [_window(1.0), _window(2.0), _window(1.0, "other")]
    assert [_place(window, *windows) for window in windows] == [0, 1, 2]


def test_a_copy_turned_round_is_the_same_window() -> None:
    window = _window(2.0)
    assert _place(dataclasses.replace(window, is_active=False, sample="silent"), _window(1.0), window) == 1


def test_a_window_that_is_none_of_the_card_is_an_error() -> None:
    with pytest.raises(harness.PluginError, match="which is none of the latent's test"):
        _place(_window(3.0), _window(1.0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results", tmp_path / "cache")
    own = {"latent": 1, "sign": 1, "window": 0, "document": "d", "sample": "top", "label": True, "says": True}
    verdicts = [{**own, "score": 0.5, "shown": None, "reason": None}]
    store.write_record(KEY, Record("done", verdicts=write_cell(store, KEY, verdicts)))
    return store


def test_verdicts_are_read_as_they_were_written(store: Store) -> None:
    assert [row["score"] for row in read_cell(store, KEY)] == [0.5] and damage(store, KEY) is None
    assert read_cell(store, "1" * 32) == []


@pytest.mark.parametrize("place", [0, 60, -40, -1])
def test_a_flipped_bit_of_verdicts_is_seen(store: Store, place: int) -> None:
    path = store.verdicts_path(KEY)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{path} is damaged: its checksum differs\. `harness run` sets it aside"):
        read_cell(store, KEY)


def test_verdicts_that_are_gone_or_another_cell_s_are_seen(store: Store) -> None:
    path = store.verdicts_path(KEY)
    path.write_bytes(b"another cell's")
    assert "checksum differs" in str(damage(store, KEY))
    path.unlink()
    with pytest.raises(StoreError, match=f"{path} is missing"):
        read_cell(store, KEY)


def test_verdicts_of_the_version_before_that_can_not_be_read_are_named(store: Store) -> None:
    record = store.record(KEY)
    assert record is not None
    earlier = {name: value for name, value in vars(record).items() if name not in ("made_from", "verdicts")}
    store.record_path(KEY).write_text(json.dumps(earlier))
    assert len(read_cell(store, KEY)) == 1
    store.verdicts_path(KEY).write_bytes(store.verdicts_path(KEY).read_bytes()[:-9])
    with pytest.raises(StoreError, match="is damaged: "):
        read_cell(store, KEY)
