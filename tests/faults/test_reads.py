"""Damage is found by its readers only where it is; and what was damaged is afterwards as it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.storage import records
from tests.faults.campaign import Campaign
from tests.faults.damage import clear
from tests.faults.pristine import Pristine
from tests.faults.reads import DamagedReads
from tests.faults.subject import Subject


@pytest.fixture
def reads(whole: Subject, scratch: Path) -> DamagedReads:
    return DamagedReads(whole, scratch / "reads")


def test_damage_is_named_and_what_is_read_unchecked_is_silent(
    reads: DamagedReads, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign("reads", reads.trials(0))
    campaign.run(n=40)
    assert not campaign.bad, "\n".join(f"{number}: {trial}" for number, trial in campaign.bad)
    assert sum(counts["named"] for counts in campaign.counts.values()) > 12
    assert reads.judged([*reads.readers]) == ("harmless", "")

    record = next(
        path
        for path in reads.readers_of
        if b"explained_variance" in path.read_bytes() and path.parent.parent.name == "cells"
    )
    text = record.read_text()
    place = text.index('"value": 0.', text.index("explained_variance")) + len('"value": 0.')
    record.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    assert reads.judged(["leaderboard"])[0] == "named"
    monkeypatch.setattr(records, "unsealed", lambda content, _: content[: content.rindex(b', "checksum"')])
    assert reads.judged(["leaderboard"])[0] == "silent"


def test_all_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for name in ("a", "b", "c", "inner/d", "inner/e"):
        (folder / name).write_text(name)
    before = _seen(folder)
    pristine = Pristine(folder, tmp_path / "held")
    for _ in range(2):
        clear(folder / "a")
        (folder / "a").mkdir()
        (folder / "b").write_text("other")
        (folder / "c").rename(folder / "c.aside")
        (folder / "inner").rename(folder / ".inner.discarded")
        (folder / "new").symlink_to("nowhere")
        pristine.restore()
        assert _seen(folder) == before
    shutil.rmtree(folder / "inner")
    pristine.restore()
    assert [each[:2] for each in _seen(folder)] == [each[:2] for each in before]


def _seen(folder: Path) -> list[tuple[object, ...]]:
    """Names and contents of all in a folder, and what it is known by."""
    found = []
    for path in sorted(folder.rglob("*")):
        stat = os.lstat(path)
        content = path.read_text() if path.is_file() else None
        found.append((path.name, content, stat.st_mtime_ns, stat.st_ino))
    return found
