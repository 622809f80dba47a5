"""A run puts up a board, or joins one; it never takes one away on which somebody waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.planning.cells import Cell
from harness.planning.config import compose
from harness.planning.plan import build_plan
from harness.running import runner
from harness.running.repairs import Repairs
from harness.running.vanished import Vanished
from harness.storage.store import Store


class Silent:
    """A display that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, n_cells: int) -> None: ...

    def event(self, event: dict[str, Any], cell: Cell | None) -> None: ...

    def at_work(self, working: Any) -> None: ...


def test_a_board_whose_workers_are_still_queued_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of a cluster may come hours after the run that waits for them."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    plan, store = build_plan(compose(["suite=smoke"])[0]), Store.of(tmp_path / "results")
    first, waiting, _ = runner._board(plan, store, Silent(), Vanished(plan, store), Repairs(plan, store))
    display = Silent()
    second, _, _ = runner._board(plan, store, display, Vanished(plan, store), Repairs(plan, store))
    assert first is not None and second is not None and waiting is not None
    assert second.made_with["id"] == first.made_with["id"] and not first.is_replaced
    assert display.said == [f"another run is at work in {store.results}; joining it"]


def test_a_board_that_all_have_left_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that failed in it are then tried again."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    plan, store = build_plan(compose(["suite=smoke"])[0]), Store.of(tmp_path / "results")
    first, waiting, _ = runner._board(plan, store, Silent(), Vanished(plan, store), Repairs(plan, store))
    assert first is not None and waiting is not None
    with waiting.present():
        pass
    second, _, _ = runner._board(plan, store, Silent(), Vanished(plan, store), Repairs(plan, store))
    assert second is not None and first.is_replaced and second.made_with["id"] != first.made_with["id"]
