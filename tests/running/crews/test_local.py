"""Workers of one machine share its cards and cores."""

from __future__ import annotations

import pytest

from harness.planning.executor import LocalExecutor
from harness.running.crews import local


def _given(
    monkeypatch: pytest.MonkeyPatch, n_cards: int, executor: LocalExecutor, visible: str = ""
) -> list[tuple[str, str]]:
    """The card and the threads of each worker."""
    monkeypatch.setattr(local, "n_cards", lambda device: n_cards)
    monkeypatch.setattr(local, "n_threads", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = local._environments(executor, "auto")
    return [(each.get("CUDA_VISIBLE_DEVICES", ""), each.get("OMP_NUM_THREADS", "")) for each in found]


@pytest.mark.parametrize(
    ("n_cards", "executor", "visible", "given"),
    [
        (0, LocalExecutor(), "", [("", "")]),
        (1, LocalExecutor(), "", [("", "")]),
        (4, LocalExecutor(), "", [("0", "4"), ("1", "4"), ("2", "4"), ("3", "4")]),
        (2, LocalExecutor(), "5, 7", [("5", "8"), ("7", "8")]),
        (2, LocalExecutor(workers=4), "", [("0", "4"), ("1", "4"), ("0", "4"), ("1", "4")]),
        (0, LocalExecutor(workers=3), "", [("", "5")] * 3),
        (0, LocalExecutor(workers=32), "", [("", "1")] * 32),
        (2, LocalExecutor(threads=3), "", [("0", "3"), ("1", "3")]),
    ],
)
def test_each_worker_has_a_card_and_its_share_of_the_cores(
    n_cards: int, executor: LocalExecutor, visible: str, given: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _given(monkeypatch, n_cards, executor, visible) == given


def test_threads_that_the_user_asks_for_hold_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert local._environments(LocalExecutor(workers=2), "cpu") == [{}, {}]
    given = local._environments(LocalExecutor(workers=2, threads=1), "cpu")
    assert {variables["OMP_NUM_THREADS"] for variables in given} == {"1"}
