"""Plugins that never end are told apart from those that conform, in good time."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import harness
from harness.cli import main as cli
from harness.testing import check_method, check_scorer, check_similarity, limits, process
from tests.testing import test_broken_methods, test_broken_similarities


class LoopsInPartialFit(test_broken_methods.Good):
    def partial_fit(self, batch: harness.Batch) -> None:
        while True:
            with suppress(Exception):  # which must not catch the limit
                self.total += batch.x.sum(dim=0)


class WaitsInEncode(test_broken_methods.Rotated):
    def encode(self, x: Tensor) -> harness.Codes:
        time.sleep(10_000)
        return super().encode(x)


class LoopsForARow(test_broken_similarities.Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        while len(x):
            pass
        return 0.0


class LoopsInPlan:
    metric, chance = "auroc", 0.5

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        while True:
            pass


@contextmanager
def _alarm_of_somebody_else(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise InterruptedError("somebody else's")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("check", "make", "first", "where"),
    [
        (check_method, LoopsInPartialFit, "learns", "partial_fit"),
        (check_method, test_broken_methods.giving(WaitsInEncode), "codes_are_well_formed", "encode"),
        (check_similarity, LoopsForARow, "gives_a_number_in_its_range", "__call__"),
        (check_scorer, LoopsInPlan, "gives_its_metric_in_its_range", "plan"),
    ],
)
def test_the_check_and_the_place_are_named(
    check: Callable[..., Any], make: Callable[[], Any], first: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    before = signal.getsignal(signal.SIGALRM)
    findings = check(make)
    (failing,) = [finding for finding in findings if finding.outcome == "fails"]
    assert failing.check == first
    assert failing.problem.startswith(f"has not ended after 0.5 s in {where} ({__file__}:"), failing.problem
    later = findings[findings.index(failing) + 1 :]
    assert later and all(finding.not_checked == f"`{first}` did not end" for finding in later)
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_alarm_of_somebody_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    with _alarm_of_somebody_else(1.0):
        problems = [finding.problem for finding in check_similarity(LoopsForARow) if finding.outcome == "fails"]
    assert "somebody else's" in problems[0] and "has not ended after 0.2 s" in problems[1]


_PLUGIN = """
import harness

@harness.hookimpl
def harness_specs():
    return [harness.Spec("similarity", "stubborn", 1, "One that nothing interrupts", Stubborn)]

class Stubborn:
    higher_is_more_similar = symmetric = True
    streams = False
    range = (0.0, 1.0)
    invariant_to = frozenset()

    def __init__(self, config):
        pass

    def __call__(self, x, y):
        while True:
            try:
                while True:
                    pass
            except:
                pass
"""


def test_what_nothing_interrupts_is_ended_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stubborn.py").write_text(_PLUGIN)
    monkeypatch.setattr(limits, "SECONDS", 1.0)
    monkeypatch.setattr(process, "_GRACE_SECONDS", 2.0)  # it keeps a core busy all the time
    started = time.monotonic()
    assert cli.main(["check", "similarity/stubborn", f"plugin_files=[{tmp_path / 'stubborn.py'}]", "--json"]) == 1
    assert time.monotonic() - started < 60
    checks = {check["check"]: check for check in json.loads(capfd.readouterr().out)["checks"]}
    problem = checks["gives_a_number_in_its_range"]["problem"]
    assert "the process was ended after 1 s in this check: nothing could interrupt it" in problem
    assert checks["says_what_it_is"]["outcome"] == "holds"
    assert checks["repeats_itself"]["not_checked"] == "the process had ended before"
