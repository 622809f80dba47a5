"""Damage does what its words say, and is found by who judges it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.faults.damage import CHANGES, PLACES, clear, damage

_OLD = json.dumps({"rows": [{"metric": "l0", "value": 4.25}], "status": "done"}, indent=1).encode() * 40
_OTHER = b'{"rows": [], "status": "failed"}\n' * 90


@pytest.mark.parametrize("name", CHANGES)
def test_every_kind_changes_a_file_by_the_seed(name: str) -> None:
    made = [CHANGES[name](_OLD, _OTHER, random.Random(seed)) for seed in (0, 0, 1, 2)]
    assert made[0] == made[1] and all(new != _OLD for new in made)


@pytest.mark.parametrize("name", CHANGES)
def test_every_kind_takes_an_empty_file(name: str) -> None:
    assert isinstance(CHANGES[name](b"", b"", random.Random(0)), bytes)


def test_all_ways_are_drawn_and_times_are_kept_where_it_says_so(tmp_path: Path) -> None:
    path, other = tmp_path / "file.json", tmp_path / "other.json"
    other.write_bytes(_OTHER)
    ways = set()
    for seed in range(400):
        clear(path)
        path.write_bytes(_OLD)
        before = path.stat().st_mtime_ns
        how = damage(path, other, random.Random(seed))
        ways.add((how or "").removesuffix(", time kept"))
        if how is None:
            assert path.read_bytes() == _OLD
        elif how in PLACES:
            assert not path.is_file()
        else:
            assert path.read_bytes() != _OLD
            assert (path.stat().st_mtime_ns == before) is how.endswith("time kept")
    assert ways - {""} == {*CHANGES, *PLACES}
