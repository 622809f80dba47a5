"""Figures of pieces add up, and a further piece begins where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.campaign import Campaign, add, next_trial, read
from tests.faults.trial import Trial


def _trials(first: int) -> Iterator[tuple[int, list[Trial]]]:
    number = first
    while True:
        record = Trial("record", "flip", "lost" if number == 3 else "named")
        yield number, [record, Trial("shard", "cut", "harmless")] if number != 4 else []
        number += 1


def _piece(path: Path, until: int, seed: int = 7) -> Campaign:
    campaign = Campaign("damage", _trials(next_trial(read(path), "damage", seed, "abc")))
    campaign.run(n=until)
    add(path, campaign.lines(seed, "abc"))
    return campaign


def test_pieces_add_up(tmp_path: Path) -> None:
    path = tmp_path / "faults.csv"
    assert _piece(path, 2).bad == []
    assert [number for number, _ in _piece(path, 6).bad] == [3]
    _piece(path, 1, seed=8)
    records, others = (
        [line for line in read(path) if line["kind"] == "record" and line["seed"] == seed] for seed in "78"
    )
    assert len(records) == len(others) == 1
    assert (records[0]["trials"], records[0]["named"], records[0]["lost"]) == ("5", "4", "1")
    assert records[0]["next_trial"] == "6" and others[0]["next_trial"] == "1"
    assert next_trial(read(path), "damage", 7, "another commit") == 0
