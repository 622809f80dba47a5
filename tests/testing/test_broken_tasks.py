"""Tasks that each break one promise."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import harness
from harness.testing import check_task
from harness.testing.checks import run_check
from harness.testing.task_trials import TaskUnderTest
from harness.testing.tasks import CHECKS


def in_one_model(a: harness.ComparedSite, b: harness.ComparedSite) -> bool:
    return a.model == b.model and a.layer != b.layer


class Good:
    """Is a layer more alike to a near layer than to a far one?"""

    metric = "accuracy"
    bounds = (0.0, 1.0)

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        n = len(comparisons.models)
        right, judged = np.zeros((2, n, n))
        for place, model in enumerate(comparisons.models):
            own = self.places(comparisons, model)
            for near, middle, far in itertools.combinations(own, 3):
                answer = self.answer(comparisons.alike[near, middle], comparisons.alike[near, far])
                if answer is not None:
                    right[place, place] += answer
                    judged[place, place] += 1
        return [harness.TaskScore(self.metric, "all", right, judged, int(judged.sum()), bounds=self.bounds)]

    def places(self, comparisons: harness.Comparisons, model: str) -> list[int]:
        own = [place for place, site in enumerate(comparisons.sites) if site.model == model]
        return sorted(own, key=lambda place: comparisons.sites[place].layer)

    def answer(self, near: float, far: float) -> float | None:
        return float(near > far)


class GivesAValue(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        return super().score(comparisons)[0].numerator.sum()


class GivesOneByOne(Good):
    """A generator, of which a run could not say how much it holds."""

    def score(self, comparisons: harness.Comparisons) -> Any:
        yield from super().score(comparisons)


class GivesNone(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        return ()


class AnotherMetric(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        score = super().score(comparisons)[0]
        return [harness.TaskScore("share", "all", score.numerator, score.denominator, score.n)]


class OneSum(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        score = super().score(comparisons)[0]
        return [harness.TaskScore("accuracy", "all", score.numerator.sum(), score.denominator.sum(), score.n)]


class Percent(Good):
    def answer(self, near: float, far: float) -> float | None:
        return 100 * float(near > far)


class TiesAreRight(Good):
    """Rewards a similarity that says the same of all."""

    def answer(self, near: float, far: float) -> float | None:
        return float(near >= far)


class NothingIsWrong(Good):
    """An undefined value is no mistake."""

    def answer(self, near: float, far: float) -> float | None:
        return float(not near <= far)


class LeavesUndefinedOut(Good):
    def answer(self, near: float, far: float) -> float | None:
        return None if np.isnan(near) or np.isnan(far) else super().answer(near, far)


class RewardsHighValues(Good):
    """The more alike all is said to be, the better."""

    def answer(self, near: float, far: float) -> float | None:
        return float(np.nan_to_num((near + far) / 2))


class RewardsLowValues(Good):
    def answer(self, near: float, far: float) -> float | None:
        return 1 - float(np.nan_to_num(far, nan=1.0))


class WrongWayRound(Good):
    def answer(self, near: float, far: float) -> float | None:
        return float(near < far)


class TakesSitesByPlace(Good):
    def places(self, comparisons: harness.Comparisons, model: str) -> list[int]:
        return [place for place, site in enumerate(comparisons.sites) if site.model == model]


class Remembers(Good):
    def __init__(self) -> None:
        self.n = 0

    def answer(self, near: float, far: float) -> float | None:
        self.n += 1
        return float(near > far) / self.n


class DrawsGlobally(Good):
    def answer(self, near: float, far: float) -> float | None:
        return float(near > far) * random.random()


class WritesIntoValues(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        np.fill_diagonal(comparisons.alike, 0)
        return super().score(comparisons)


class LooksAtOtherModels(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        (score,) = super().score(comparisons)
        score.numerator[0, 0] += float(comparisons.alike[0, -1] > 0)
        score.denominator[0, 0] += 1
        return [score]


class AddsNoise(Good):
    """Compares rows with noisy ones, and spoils them for the next."""

    def score(self, comparisons: harness.Comparisons) -> Any:
        x, _ = comparisons.shared_rows(0, 1)
        before = comparisons.compare(x, x)
        x += 1
        n = len(comparisons.models)
        right, judged = np.zeros((2, n, n))
        judged[0, 0] = 1
        right[0, 0] = float(abs(comparisons.compare(x, x) - before) < 0.01)
        return [harness.TaskScore("accuracy", "all", right, judged, 1)]


BROKEN: dict[type, tuple[str, str]] = {
    GivesAValue: ("gives_scores", "give a list or tuple of harness.TaskScores"),
    GivesOneByOne: ("gives_scores", "give a list or tuple of harness.TaskScores"),
    GivesNone: ("gives_scores", "give a list or tuple of harness.TaskScores"),
    AnotherMetric: ("gives_scores", r"main metric is 'accuracy', but score\(\) gives \['share'\]"),
    OneSum: ("gives_scores", r"give finite numbers \[12, 12\]"),
    Percent: ("gives_scores", "outside its bounds"),
    TiesAreRight: ("does_not_reward_a_constant", "accuracy is 1 for one that says 0.5 of all pairs.*> and not with >="),
    RewardsHighValues: ("does_not_reward_a_constant", "for one that says 1.0 of all pairs"),
    RewardsLowValues: ("does_not_reward_a_constant", "says 0 of all pairs is as good"),
    NothingIsWrong: ("counts_what_is_undefined_as_wrong", "undefined everywhere"),
    LeavesUndefinedOut: ("counts_what_is_undefined_as_wrong", "leave none out"),
    WrongWayRound: ("tells_who_knows_from_who_guesses", "wrong way round"),
    TakesSitesByPlace: ("does_not_mind_the_order_of_sites", "take sites by their layer"),
    Remembers: ("repeats_itself", "a second time"),
    DrawsGlobally: ("repeats_itself", "draw by a seed"),
    WritesIntoValues: ("leaves_its_input_alone", "changed comparisons.alike"),
    AddsNoise: ("leaves_its_input_alone", "changed shared rows"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    _assert_found(TaskUnderTest(make), *BROKEN[make])


def asks_by_identity() -> Callable[[Any, Any], Any]:
    first: list[Any] = []

    def pairs(a: Any, b: Any) -> bool:
        first.append(a)
        return a is first[0]

    return pairs


@pytest.mark.parametrize(
    ("make", "pairs", "check", "message"),
    [
        (Good, lambda a, b: None, "asks_for_pairs", "gave None"),
        (Good, lambda a, b: False, "asks_for_pairs", "asks for no two"),
        (Good, asks_by_identity(), "asks_for_pairs", "changes its mind"),
        (LooksAtOtherModels, in_one_model, "looks_at_no_other_pairs", "must name every pair"),
    ],
)
def test_wrong_pairs_are_found(make: Any, pairs: Any, check: str, message: str) -> None:
    _assert_found(TaskUnderTest(make, pairs), check, message)


def test_wrong_needs_are_found() -> None:
    _assert_found(TaskUnderTest(Good, in_one_model, ("rows",)), "needs_what_it_says", r"say needs=\('values',\)")
    _assert_found(TaskUnderTest(AddsNoise, in_one_model, ("values",)), "needs_what_it_says", r"needs=\('rows',\)")


def test_what_conforms_passes() -> None:
    under_test = TaskUnderTest(Good, in_one_model, ("values",))
    assert [run_check(check, under_test).outcome for check in CHECKS] == ["holds"] * len(CHECKS)
    assert sum(finding.outcome == "not checked" for finding in check_task(Good)) == 3


class GivesATuple(Good):
    def score(self, comparisons: harness.Comparisons) -> Any:
        return tuple(super().score(comparisons))


def test_scores_may_be_any_sequence_as_in_runs() -> None:
    under_test = TaskUnderTest(GivesATuple, in_one_model, ("values",))
    assert [run_check(check, under_test).outcome for check in CHECKS] == ["holds"] * len(CHECKS)


def _assert_found(under_test: TaskUnderTest, name: str, message: str) -> None:
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, under_test)
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem
