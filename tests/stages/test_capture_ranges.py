"""Captures in ranges: whoever does which of them, in whatever order and how often, leaves the bytes of one pass."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.capturing import chunks, pass_shards, texts
from harness.capturing.chunks import Range
from harness.contracts.corpus import Document
from harness.contracts.model import Window
from harness.planning.cells import Cell
from harness.registry.plugin_manager import Catalog
from harness.running import worker
from harness.running.session import Session
from harness.stages import capture
from harness.storage.sealed_files import seal
from harness.storage.store import Store

SITES = ("resid_post.0", "mlp_out.1", "resid_post.1")


class Words:
    """A model whose rows betray which windows shared a batch, in which order; some are huge, or no numbers."""

    n_layers, width, tokenizer_hash = 2, 3, "words"

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        found = []
        for text in texts:
            words = text.split(" ") if text else []
            places = list(range(len(words)))
            cuts = [slice(first, first + context) for first in range(0, len(words), context)]
            special = [word == "s" for word in words]
            found.append([Window([ord(w) for w in words[cut]], special[cut], places[cut], places[cut]) for cut in cuts])
        return found

    def activations(self, ids: torch.Tensor, mask: torch.Tensor, sites: Sequence[str]) -> Mapping[str, torch.Tensor]:
        at = torch.arange(len(ids))[:, None].expand(ids.shape).float()
        x = torch.stack([ids.float(), (ids * mask).sum().expand(ids.shape).float(), at * mask.sum()], dim=2)
        x[ids == ord("h")] *= 1e6
        x[ids == ord("n")] = float("nan")
        return {site: x + SITES.index(site) for site in sites}


@dataclass
class Corpus:
    texts: Sequence[str]

    def documents(self) -> Iterator[Document]:
        yield from (Document(f"{i:03d}", text) for i, text in enumerate(self.texts))


class Broken(Exception):
    pass


class Sessions:
    """Sessions of processes that have one store."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self.store, self.made = Store(folder / "results", folder / "cache"), {"model": Words(), "corpus": Corpus(texts)}
        self.said: list[str] = []

    def new(self) -> Session:
        session = Session(self.store, Catalog(), torch.device("cpu"), "log", emit=lambda event: None)
        session.create = lambda kind, call: self.made[kind]  # type: ignore[method-assign]
        session.warn = self.said.append  # type: ignore[method-assign]
        return session

    def left(self, cells: Sequence[Cell]) -> dict[str, Any]:
        """Every file of the artefacts, and what manifests and records say that nobody has measured."""
        found: dict[str, Any] = {}
        for cell in cells:
            for path in sorted(self.store.artefact("capture", cell.key).iterdir()):
                found[f"{cell.key}/{path.name}"] = path.read_bytes() if path.suffix == ".safetensors" else b""
            manifest = self.store.manifest("capture", cell.key)
            assert manifest is not None and self.store.damage("capture", cell.key) is None
            measured = ("capture_peak_memory_bytes",)
            found[cell.key] = [manifest[name] for name in ("files", "task", "n_rows", "width", "sites_of_pass")]
            found[cell.key] += [row for row in manifest["cost"] if row["metric"] not in measured]
        return found | {"said": self.said}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of two windows in a chunk; and no time passes, which shards would tell of."""
    monkeypatch.setattr(texts, "chunk_windows", lambda n_tokens, context: 4)
    monkeypatch.setattr(chunks, "BATCH_WINDOWS", 2)
    monkeypatch.setattr(capture.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes longer than all else


def _cells(tokens: int, n_sites: int, **work: Any) -> list[Cell]:
    call = {"name": "x", "params": {}}
    work = {"model": call, "corpus": call, "max_disk_gb": 1.0, "split": "fit", "documents": [0, 1]} | work
    work |= {"tokens": tokens, "context": 5}
    return [Cell("capture", site, site, "pass", work | {"site": site}, {"model": "m"}) for site in SITES[:n_sites]]


WORDS = st.lists(st.sampled_from("abcdefshn"), max_size=14).map(" ".join)
"""Documents of no row, too: empty ones, of one word, of special words alone."""


@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(WORDS, max_size=30).map(lambda found: [*found, "a b"]),
    tokens=st.integers(1, 150),
    n_sites=st.integers(1, 3),
    ranges=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    draw=st.sampled_from([None, 0, 1]),
    chance=st.randoms(use_true_random=False),
)
def test_ranges_leave_the_bytes_of_one_pass(
    documents: list[str], tokens: int, n_sites: int, ranges: list[int], draw: int | None, chance: Any
) -> None:
    """Runs with other numbers of workers follow each other; ranges are left out, broken off, done twice."""
    folder = Path(tempfile.mkdtemp())
    try:
        cells = _cells(tokens, n_sites, **({} if draw is None else {"draw": draw}))
        whole, cut = Sessions(folder / "whole", documents), Sessions(folder / "cut", documents)
        capture.run(cells, whole.new())
        for n in ranges:
            for number in chance.sample(range(n), chance.randint(0, n)):
                _do_range(cut.new(), cells, Range(number, n), chance)
        capture.run(cells, cut.new())
        assert cut.left(cells) == whole.left(cells)
    finally:
        shutil.rmtree(folder)


def _do_range(session: Session, cells: list[Cell], part: Range, chance: Any) -> None:
    """Do a range, or some of it."""
    left = [chance.choice([0, 1, 2, 3, 5, 1000])]

    def write(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Broken
        write_shard(*arguments)

    write_shard = pass_shards.write_shard
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_shards, "write_shard", write)
        try:
            capture.run_range(chance.sample(cells, len(cells)), session, part)
        except Broken:
            return


@given(st.integers(1, 10**12), st.integers(1, 100))
def test_every_row_is_in_one_range_of_about_one_size(tokens: int, n: int) -> None:
    ranges = [Range(i, n).rows(tokens) for i in range(n)]
    assert (ranges[0][0], ranges[-1][1]) == (0, tokens)
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    sizes = {end - first for first, end in ranges}
    assert max(sizes) - min(sizes) <= 1


TEXTS = ["a b c d e f g"] * 30
"""60 windows of 4 rows and of 1, and so 15 chunks of 10."""


def _count_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of windows of each forward pass, as they are run."""
    run, activations = list[int](), Words.activations

    def counted(self: Words, ids: torch.Tensor, *arguments: Any) -> Mapping[str, torch.Tensor]:
        run.append(len(ids))
        return activations(self, ids, *arguments)

    monkeypatch.setattr(Words, "activations", counted)
    return run


def test_each_range_runs_its_own_windows_and_the_end_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, cells, run = Sessions(tmp_path, TEXTS), _cells(100, 2), _count_runs(monkeypatch)
    n_run = []
    for number in (2, 0, 3, 1):
        capture.run_range(cells, sessions.new(), Range(number, 4))
        n_run.append(sum(run))
        run.clear()
    assert sorted(n_run) == [8, 8, 12, 12] and sum(n_run) == 40  # 10 chunks of 4 windows
    del sessions.made["model"]  # it isn't even loaded
    capture.run(cells, sessions.new())
    assert not run and sessions.store.made(cells[0]) is not None


def test_a_range_that_was_broken_off_costs_only_what_it_had_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, cells, run = Sessions(tmp_path, TEXTS), _cells(100, 2), _count_runs(monkeypatch)
    capture.run_range(cells, sessions.new(), Range(0, 2))
    _do_range(sessions.new(), cells, Range(1, 2), _Always(4))
    run.clear()
    capture.run(cells, sessions.new())
    assert sum(run) == 3 * 4  # of five chunks of the second range, two are there at both sites
    assert sessions.said == []


@dataclass
class _Always:
    """A chance that always takes one thing."""

    thing: int

    def choice(self, _: object) -> int:
        return self.thing

    def sample(self, things: Sequence[Any], _: int) -> list[Any]:
        return list(things)


def test_a_range_of_what_another_run_has_made_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would change the files of an artefact, or begin a work folder that nobody ends."""
    sessions, cells = Sessions(tmp_path, TEXTS), _cells(100, 2)
    activations, calls = Words.activations, list[int]()

    def overtaken(self: Words, *arguments: Any) -> Mapping[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 1:
            capture.run(cells, sessions.new())
        return activations(self, *arguments)

    monkeypatch.setattr(Words, "activations", overtaken)
    session, events = sessions.new(), list[dict[str, Any]]()
    session.emit = events.append
    capture.run_range(cells, session, Range(1, 2))
    assert [event["key"] for event in events if event["event"] == "cell"] == [cell.key for cell in cells]
    assert len(calls) == 2 + 20  # the second batch of its first chunk; 10 chunks of the other run
    left = sessions.left(cells)
    assert not [path for path in sessions.store.cache.rglob("*") if "partial" in path.name]
    capture.run_range(cells, sessions.new(), Range(0, 2))
    assert sessions.left(cells) == left and len(calls) == 22
    record = sessions.store.record(cells[0].key)
    assert record is not None and record.status == "done"


def test_what_fails_in_a_range_is_told_and_fails_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends the cells meets it again, and knows whose it is."""
    sessions, cells = Sessions(tmp_path, TEXTS), _cells(100, 2)
    session = sessions.new()
    with monkeypatch.context() as patch:
        patch.setattr(Words, "activations", lambda *arguments: 1 / 0)
        worker._run_range(cells, session, Range(0, 2))
    assert sessions.said == [
        "resid_post.0, range 1 of 2: ZeroDivisionError('division by zero'). It is tried again at the end."
    ]
    assert not session.ended
    capture.run(cells, sessions.new())
    assert sessions.store.made(cells[0]) is not None


def test_what_is_there_counts_where_the_disk_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranges have taken what the end then needs no more."""
    sessions, cells = Sessions(tmp_path, TEXTS), _cells(100, 2)
    capture.run_range(cells, sessions.new(), Range(0, 2))
    usage = shutil.disk_usage(tmp_path)._replace(free=1300)  # of 2,400 bytes
    monkeypatch.setattr(capture.shutil, "disk_usage", lambda path: usage)
    capture.run(cells, sessions.new())
    other = Sessions(tmp_path / "other", TEXTS)
    with pytest.raises(capture.StoreError, match="this pass needs"):
        capture.run(cells, other.new())


def test_a_seal_of_a_version_that_knew_other_things_is_no_error(tmp_path: Path) -> None:
    sessions, cells = Sessions(tmp_path, TEXTS), _cells(100, 2)
    capture.run_range(cells, sessions.new(), Range(0, 2))
    for shard in sessions.store.cache.rglob("shard-*"):
        seal(shard, {"n_rows": 3})
    capture.run(cells, sessions.new())
    whole = Sessions(tmp_path / "whole", TEXTS)
    capture.run(cells, whole.new())
    assert sessions.left(cells) == whole.left(cells)


def test_what_rots_before_the_end_is_not_sealed_as_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests have the checksums of shards as they were written, not as they are by then."""
    sessions, cells = Sessions(tmp_path, TEXTS), _cells(100, 2)
    shard = sessions.store.work_folder("capture", cells[0].key) / "shard-00001.safetensors"
    monkeypatch.setattr(capture._Pass, "write_means", lambda self: _flip(random.Random(0), [shard]))
    capture.run(cells, sessions.new())
    damage = [sessions.store.damage("capture", cell.key) for cell in cells]
    assert damage[0] is not None and "shard-00001.safetensors is corrupt" in damage[0] and damage[1] is None


def _flip(chance: Any, files: list[Path]) -> None:
    path = chance.choice(files)
    content = bytearray(path.read_bytes() or b"emptied before")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _cut(chance: Any, files: list[Path]) -> None:
    path = chance.choice(files)
    assume(path.stat().st_size)
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def _swap(chance: Any, files: list[Path]) -> None:
    """Two files, or two shards with their seals."""
    shards = [path for path in files if path.name.startswith("shard-")]
    among = chance.choice([files, shards])
    assume(len(among) > 1)
    a, b = chance.sample(among, 2)
    has_seals = a in shards and b in shards and _seal(a).exists() and _seal(b).exists()
    for one, other in [(a, b), *([(_seal(a), _seal(b))] if has_seals and chance.random() < 0.5 else [])]:
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)


def _remove(chance: Any, files: list[Path]) -> None:
    chance.choice(files).unlink()


def _add(chance: Any, files: list[Path]) -> None:
    """One shard more, which has the number of another, or none."""
    shards = [path for path in files if path.name.startswith("shard-") and _seal(path).exists()]
    assume(shards)
    path = chance.choice(shards)
    other = path.with_name(
        chance.choice([f"shard-{chance.randrange(12):05d}.safetensors", "shard-x", "mean.safetensors"])
    )
    for source, target in ((path, other), *([(_seal(path), _seal(other))] if chance.random() < 0.5 else [])):
        target.write_bytes(source.read_bytes())


def _seal(shard: Path) -> Path:
    return shard.with_name(f".{shard.name}.seal")


@settings(max_examples=12, deadline=None)
@given(
    harm=st.lists(st.sampled_from([_flip, _cut, _swap, _remove, _add]), min_size=1, max_size=2),
    chance=st.randoms(use_true_random=False),
)
def test_whatever_befell_what_was_left_the_bytes_are_those_of_one_pass(harm: list[Any], chance: Any) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        cells, texts = _cells(60, 2), TEXTS[:20]
        whole, broken = Sessions(folder / "whole", texts), Sessions(folder / "broken", texts)
        capture.run(cells, whole.new())
        _do_range(broken.new(), cells, Range(chance.choice([0, 1]), 2), _Always(chance.randint(2, 6)))
        for harm_one in harm:
            harm_one(chance, sorted(path for path in broken.store.cache.rglob("*/*") if ".partial" in path.parent.name))
        capture.run(cells, broken.new())
        said, broken.said = broken.said, []
        assert broken.left(cells) == whole.left(cells)
        assert all("is made again" in text for text in said)
    finally:
        shutil.rmtree(folder)
