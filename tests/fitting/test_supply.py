"""Tests of the ways that rows take to a device: all give the same blocks. What is said of cards is tried on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.capturing import activations
from harness.capturing.activations import Stream
from harness.errors import StoreError
from harness.fitting import clocks, supply
from harness.fitting.clocks import Clock
from harness.storage.activation_store import StoredActivations, write_shard
from tests.support.parts import rows_of_text

CPU, N, D = torch.device("cpu"), 700, 12


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BLOCK_ROWS", 30)
    monkeypatch.setattr(supply, "_PIECE_ROWS", 64)


@pytest.fixture
def stored(tmp_path: Path) -> StoredActivations:
    x, rows = torch.randn(N, D, generator=torch.Generator().manual_seed(0)).bfloat16(), rows_of_text(N)
    names = []
    for number, places in enumerate(torch.arange(N).split(250)):
        part = rows.iloc[places.numpy()].reset_index(drop=True)
        write_shard(tmp_path, number, x[places], part)
        names.append(f"shard-{number:05d}.safetensors")
    return StoredActivations(tmp_path, {"n_rows": N, "width": D, "files": {name: {} for name in names}})


def stream(of: StoredActivations, in_given_order: bool = False) -> Stream:
    return Stream(of, (torch.arange(N) % 3 != 1).nonzero().flatten(), 5, in_given_order)


def ways(of: Stream) -> list[supply.Supply]:
    held = supply._held(of, CPU, torch.float32)
    everything = of.activations.take(torch.arange(N))
    return [
        supply._Held(of, held),
        supply._Held(of, everything, are_all=True),
        supply._ReadAhead(of, CPU, torch.float32),
    ]


def joined(blocks: Iterator[supply.Block]) -> tuple[torch.Tensor, torch.Tensor]:
    x, index = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return x, index


@pytest.mark.parametrize("in_given_order", [False, True])
def test_all_ways_give_the_same_rows_in_the_same_order(stored: StoredActivations, in_given_order: bool) -> None:
    one = stream(stored, in_given_order)
    for way in ways(one):
        for pass_number in (0, 1, 1, 2, 0):
            x, index = joined(way.blocks(pass_number, n_passes=3))
            wanted, places = joined(one.blocks(pass_number))
            assert torch.equal(index, places) and torch.equal(x, wanted)
            assert x.dtype == torch.float32


def test_many_rows_are_those_that_are_taken_one_by_one(stored: StoredActivations) -> None:
    index = torch.randint(N, (2000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(stored.take_many(index), stored.take(index))
    assert stored.take_many(index[:0]).shape == (0, D)
    with pytest.raises(IndexError):
        stored.take_many(torch.tensor([N]))


def test_a_file_that_ends_too_early_is_named(stored: StoredActivations) -> None:
    assert len(stored.rows) == N  # read by another way
    path = stored.folder / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(StoreError, match=r"shard-00001[.]safetensors ends too early"):
        joined(supply._ReadAhead(stream(stored), CPU, torch.float32).blocks(0))


def test_a_reader_that_is_left_alone_ends(stored: StoredActivations) -> None:
    before = threading.active_count()
    blocks = supply._ReadAhead(stream(stored), CPU, torch.float32).blocks(0)
    next(blocks)
    blocks.close()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(timeout=1)
    assert threading.active_count() <= before


def test_what_a_cpu_gets_is_not_read_ahead(stored: StoredActivations) -> None:
    one = stream(stored)
    (way,) = supply.supplies([one], CPU, torch.float64).values()
    assert isinstance(way, supply._AsRead)
    assert torch.equal(joined(way.blocks(1))[0], joined(one.blocks(1))[0].double())


class Card:
    """A card whose time is told by hand; it gets to things when it is waited for, or told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.n_waits, self.is_behind = 0.0, 0, True
        card = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: object) -> None:
                self.at = card.seconds

            def query(self) -> bool:
                return not card.is_behind

            def synchronize(self) -> None:
                card.n_waits, card.is_behind = card.n_waits + 1, False

            def elapsed_time(self, other: Event) -> float:
                return 1000 * (other.at - self.at)

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace())


def test_a_card_is_timed_without_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_PENDING_STEPS", 3)
    card, clock = Card(monkeypatch), Clock(torch.device("cuda"))
    for _ in range(10):
        card.seconds += 100  # the work of others
        clock.start()
        card.seconds += 0.5
        clock.reached()
        clock.stop()
        assert clock.taken()[0] == 0
    assert card.n_waits == 0
    card.is_behind = False
    assert clock.taken()[0] == pytest.approx(7 * 0.5)  # the last ones may wait
    card.is_behind = True
    assert clock.taken(wait=True)[0] == pytest.approx(3 * 0.5)
    assert card.n_waits == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_time_that_is_left_out_is_no_learners_own(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that was left out before a step, or between two, changes nothing of it."""
    card, clock = Card(monkeypatch), Clock(torch.device(device))
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: card.seconds)
    for name in ("process_time", "thread_time"):
        monkeypatch.setattr(clocks.time, name, lambda: card.seconds / 2)
    for left_out in (0.0, 30.0):
        clocks.leave_out(7, 7)
        clock.start()
        card.seconds += 0.5 + left_out
        clocks.leave_out(left_out, left_out / 2)
        clock.reached()
        clock.stop()
    assert clock.taken(wait=True) == (pytest.approx(1.0), pytest.approx(0.5))


def test_a_step_that_fails_on_a_card_costs_the_time_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch)
    clock = Clock(torch.device("cuda"))
    clock.start()
    clock.stop()
    assert 0 < clock.taken(wait=True)[0] < 1


@pytest.mark.gpu
def test_a_card_gets_what_a_cpu_gets(stored: StoredActivations, monkeypatch: pytest.MonkeyPatch) -> None:
    one, card = stream(stored), torch.device("cuda")
    for share in (1.0, 0.0):
        monkeypatch.setattr(supply, "_HELD_SHARE", share)
        (way,) = supply.supplies([one], card, torch.float32).values()
        assert isinstance(way, supply._Held) == (share == 1.0)
        for pass_number in (0, 1):
            x, index = joined(way.blocks(pass_number, n_passes=2))
            wanted, places = joined(one.blocks(pass_number))
            assert x.is_cuda and torch.equal(x.cpu(), wanted) and torch.equal(index, places)
