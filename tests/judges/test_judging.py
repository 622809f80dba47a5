"""How judges are asked: each thing once, whatever happens in between; failures are told, and not kept."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.judges import Judging
from harness.response_cache import ResponseCache

JUDGE = {"name": "scripted", "version": 1}
CHOICES = [harness.Choose("s", f"user {i}", ("Yes", "No")) for i in range(10)]
OTHERS = [harness.Generate("s", "u", 5), harness.Likelihood("a", "b")]


class Scripted:
    """Remembers what it was asked; may break off after so many answers, or fail on some."""

    def __init__(self, breaks_after: int | None = None, fails: Sequence[str] = ()) -> None:
        self.asked: list[Any] = []
        self._breaks_after = breaks_after
        self._fails = fails

    def choose(self, requests: Any) -> Iterator[Any]:
        for request in requests:
            if len(self.asked) == self._breaks_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            yield harness.Failure("no") if request.user in self._fails else (-0.1 * len(request.user), -1 / 3)

    def generate(self, requests: Any) -> list[str]:
        self.asked += requests
        return ["é\n"] * len(requests)

    def likelihood(self, requests: Any) -> list[Any]:
        self.asked += requests
        return [(-1.5, 3)] * len(requests)


def _judging(folder: Path, judge: Any, identity: Any = JUDGE) -> Judging:
    return Judging(lambda: judge, ResponseCache(folder, identity))


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    judge, never = Scripted(), Scripted(breaks_after=0)
    cold = _judging(tmp_path, judge)
    cold.ask([*CHOICES, *OTHERS, *CHOICES])
    assert sorted(map(str, judge.asked)) == sorted(map(str, [*CHOICES, *OTHERS]))
    warm = _judging(tmp_path, never)
    assert [warm.response(r) for r in (*CHOICES, *OTHERS)] == [cold.response(r) for r in (*CHOICES, *OTHERS)]
    assert warm.response(OTHERS[0]) == "é\n" and warm.response(OTHERS[1]) == (-1.5, 3)
    assert not never.asked


def test_what_was_answered_before_an_interruption_is_kept(tmp_path: Path) -> None:
    first, second = Scripted(breaks_after=4), Scripted()
    with pytest.raises(KeyboardInterrupt):
        _judging(tmp_path, first).ask(CHOICES)
    _judging(tmp_path, second).ask(CHOICES)
    assert len(first.asked) == 4 and not set(first.asked) & set(second.asked)
    assert set(first.asked) | set(second.asked) == set(CHOICES)


def test_another_judge_is_asked_anew(tmp_path: Path) -> None:
    for identity in (JUDGE, JUDGE | {"version": 2}):
        judge = Scripted()
        _judging(tmp_path, judge, identity).ask(CHOICES)
        assert len(judge.asked) == len(CHOICES)


def test_a_failure_is_a_response_and_may_pass(tmp_path: Path) -> None:
    judging = _judging(tmp_path, Scripted(fails=["user 3"]))
    judging.ask(CHOICES)
    assert judging.response(CHOICES[3]) == harness.Failure("no")
    mended = Scripted()
    assert _judging(tmp_path, mended).response(CHOICES[3]) == (-0.6000000000000001, -1 / 3)
    assert mended.asked == [CHOICES[3]]


def test_a_judge_that_answers_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(harness.PluginError, match="answered none of 10 requests: no"):
        _judging(tmp_path, Scripted(fails=[request.user for request in CHOICES])).ask(CHOICES)


@pytest.mark.parametrize("answer", [None, (1.0,), (float("nan"), 0.0), "Yes", [0.0, 0.0]])
def test_amiss_answers_are_errors(tmp_path: Path, answer: Any) -> None:
    judge = Scripted()
    judge.choose = lambda requests: [answer] * len(requests)  # type: ignore[method-assign]
    with pytest.raises(harness.PluginError, match=r"Scripted.choose\(\) answered Choose with"):
        _judging(tmp_path, judge).ask(CHOICES)


def _write(folder: Path, first: int) -> None:
    cache = ResponseCache(folder, JUDGE)
    for i in range(first, first + 200):
        cache.keep(harness.Likelihood("", str(i)), [float(i), 1])


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    other = multiprocessing.get_context("fork").Process(target=_write, args=(tmp_path, 100))
    other.start()
    _write(tmp_path, 0)
    other.join()
    assert other.exitcode == 0
    cache = ResponseCache(tmp_path, JUDGE)
    assert [cache.find(harness.Likelihood("", str(i))) for i in range(300)] == [[float(i), 1] for i in range(300)]
