"""The kit finds what is wrong with monitors, and nothing with the harness's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.monitoring.documents import WatchedDocuments
from harness.monitoring.drift_watch import Outcome
from harness.monitoring.monitor import refuse_fitted
from harness.testing import check_monitor, raise_problems
from harness.testing.checks import run_check
from harness.testing.monitors import CHECKS, DocumentRows, MonitorUnderTest

_SETTINGS = harness.MonitorSettings(horizon=500, window=40)


class Own:
    """The harness's own watch, on rows."""

    def __init__(self, decomposition: harness.Decomposition, fitted: DocumentRows, unseen: DocumentRows) -> None:
        self.decomposition = decomposition
        refuse_fitted(self.units(unseen), set(self.units(fitted)))
        self.watch = harness.DriftWatch(self.watched(unseen), _SETTINGS)

    def units(self, rows: DocumentRows) -> list[str]:
        return list(dict.fromkeys(rows.documents))

    def places(self, rows: DocumentRows) -> np.ndarray:
        number = {unit: place for place, unit in enumerate(self.units(rows))}
        return np.array([number[document] for document in rows.documents])

    def watched(self, rows: DocumentRows) -> WatchedDocuments:
        return harness.watched(self.decomposition, rows.x, self.places(rows), self.units(rows))

    def update(self, rows: DocumentRows) -> Outcome:
        return self.watch.update(self.watched(rows))


class TokensAsUnits(Own):
    """Takes every row for a document."""

    def __init__(self, decomposition: harness.Decomposition, fitted: DocumentRows, unseen: DocumentRows) -> None:
        self.decomposition = decomposition
        refuse_fitted(list(dict.fromkeys(unseen.documents)), set(fitted.documents))
        settings = harness.MonitorSettings(horizon=500, window=10_000)
        self.watch = harness.DriftWatch(self.watched(unseen), settings)

    def units(self, rows: DocumentRows) -> list[str]:
        return [str(number) for number in range(len(rows.documents))]

    def places(self, rows: DocumentRows) -> np.ndarray:
        return np.arange(len(rows.documents))


class CalibratedOnTheFit(Own):
    """Uses the documents that the decomposition has learnt from."""

    def __init__(self, decomposition: harness.Decomposition, fitted: DocumentRows, unseen: DocumentRows) -> None:
        self.decomposition = decomposition
        self.watch = harness.DriftWatch(self.watched(fitted), _SETTINGS)


class DrawsAnew(Own):
    """Breaks ties by a global generator."""

    def __init__(self, decomposition: harness.Decomposition, fitted: DocumentRows, unseen: DocumentRows) -> None:
        super().__init__(decomposition, fitted, unseen)
        settings = harness.MonitorSettings(horizon=500, window=40, seed=int(torch.randint(10_000, ())))
        self.watch = harness.DriftWatch(self.watched(unseen), settings)


class Sleeps(Own):
    """Sees the same documents whatever comes."""

    def update(self, rows: DocumentRows) -> Outcome:
        return Outcome(len(self.units(rows)), None, 0.0, 0.0, [])


def test_the_own_watch_conforms() -> None:
    findings = check_monitor(Own)
    raise_problems(findings)
    assert all(finding.outcome == "holds" for finding in findings)


@pytest.mark.parametrize(
    ("make", "fails"),
    [
        (TokensAsUnits, {"names_few_latents_where_nothing_has_changed"}),
        (CalibratedOnTheFit, {"keeps_its_bound_on_false_alarms", "refuses_documents_of_the_fit", "notices_a_change"}),
        (DrawsAnew, {"repeats_itself"}),
        (Sleeps, {"notices_a_change"}),
    ],
)
def test_broken_monitors_are_found(make: Callable[..., Any], fails: set[str]) -> None:
    under_test = MonitorUnderTest(make)
    findings = [run_check(check, under_test) for check in CHECKS if check.__name__ in fails]
    assert [finding.outcome for finding in findings] == ["fails"] * len(fails)
