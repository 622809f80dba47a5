"""Rows that come in one order and are given in another, as far as there is room for them."""

from __future__ import annotations

import pytest
import torch

from harness.capturing import activations
from harness.fitting.waiting import WaitingRows

N, D = 500, 3
X = torch.arange(N * D, dtype=torch.float32).view(N, D)
KEEP = (torch.arange(N) % 7 != 2).nonzero().flatten()
CHUNKS = [(0, 90), (90, 91), (91, 340), (340, N)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BLOCK_ROWS", 30)


def emptied(rows: WaitingRows) -> tuple[list[torch.Tensor], list[torch.Tensor], int]:
    """All blocks, and how often the rows had to come."""
    x, places, n_readings = [], [], 0
    while not rows.is_over:
        n_readings += 1
        assert n_readings < 99
        for start, end in CHUNKS:
            if rows.wants(start, end):
                rows.receive(start, X[start:end])
            while not rows.is_over and rows.has_next:
                block, own = rows.take()
                x, places = [*x, block], [*places, own]
    return x, places, n_readings


@pytest.mark.parametrize(("n_held", "n_readings"), [(N, 1), (150, 3), (0, 8)])
def test_rows_are_given_in_order_however_few_are_held(n_held: int, n_readings: int) -> None:
    order = KEEP[torch.randperm(len(KEEP), generator=torch.Generator().manual_seed(0))]
    rows = WaitingRows(order, N, 0, n_held * D * 4)
    x, places, found = emptied(rows)
    assert torch.equal(torch.cat(places), order) and torch.equal(torch.cat(x), X[order])
    assert [len(block) for block in x] == [30] * 14 + [8]
    assert found == n_readings
    assert len(rows._held) == max(min(n_held, len(order)), 60)  # type: ignore[arg-type]  # two blocks at least


def test_rows_that_move_little_need_little_room() -> None:
    moved = torch.arange(len(KEEP)) + 40 * torch.rand(len(KEEP), generator=torch.Generator().manual_seed(0))
    order = KEEP[moved.argsort()]
    rows = WaitingRows(order, N, 0, 0)
    rows_at_once = [(start, start + 10) for start in range(0, N, 10)]
    given = []
    for start, end in rows_at_once:
        rows.receive(start, X[start:end])
        while not rows.is_over and rows.has_next:
            given.append(rows.take()[1])
    assert torch.equal(torch.cat(given), order)


def test_rows_before_the_first_are_neither_wanted_nor_given() -> None:
    rows = WaitingRows(KEEP, N, 330, 1e9)
    assert not rows.wants(0, int(KEEP[329]) + 1) and rows.wants(int(KEEP[330]), int(KEEP[330]) + 1)
    assert not rows.wants(int(KEEP[-1]) + 1, N + 1)
    assert torch.equal(torch.cat(emptied(rows)[1]), KEEP[330:])


def test_rows_keep_the_type_they_come_in() -> None:
    rows = WaitingRows(torch.arange(N), N, 0, 1e9)
    rows.receive(0, X.bfloat16())
    assert rows.take()[0].dtype == torch.bfloat16
