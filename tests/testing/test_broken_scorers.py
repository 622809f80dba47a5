"""Scorers that each break one promise."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from typing import Any, ClassVar

import pytest

import harness
from harness.testing import check_scorer
from harness.testing.checks import run_check
from harness.testing.scorers import CHECKS, ScorerUnderTest


class Good:
    """The share of test windows that are told apart by whether they hold the commonest token of active windows."""

    metric = "auroc"
    chance = 0.5

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        if not all(any(w.is_active is kind for w in latent.explain) for kind in (True, False)) or not latent.test:
            raise harness.Undefined("windows of one kind are missing")
        return []

    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> list[harness.TableRow]:
        return [harness.TableRow(self.metric, self.value(latent), len(latent.test), True)]

    def value(self, latent: harness.Latent) -> float:
        peaks = [w.tokens[w.activations.index(max(w.activations))] for w in latent.explain if w.is_active]
        token = max(sorted(set(peaks)), key=peaks.count)
        holds = {kind: [token in w.tokens for w in latent.test if w.is_active is kind] for kind in (True, False)}
        return (sum(holds[True]) / len(holds[True]) + 1 - sum(holds[False]) / len(holds[False])) / 2


class GivesNumbers(Good):
    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> Any:
        return {self.metric: self.value(latent)}


class Peeks(Good):
    """Looks at the activations it should tell."""

    def value(self, latent: harness.Latent) -> float:
        return sum(w.is_active is bool(any(w.activations)) for w in latent.test) / len(latent.test)


class WrongWayRound(Good):
    def value(self, latent: harness.Latent) -> float:
        return 1 - super().value(latent)


class Remembers(Good):
    def __init__(self) -> None:
        self.n = 0

    def value(self, latent: harness.Latent) -> float:
        self.n += 1
        return super().value(latent) / self.n


class OtherMetric(Good):
    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> list[harness.TableRow]:
        return [harness.TableRow("accuracy", 0.5, 1)]


class Percent(Good):
    def value(self, latent: harness.Latent) -> float:
        return 100 * super().value(latent)


class AlsoOutside(Good):
    also: ClassVar[dict[str, tuple[float, float]]] = {"n_senses": (1.0, math.inf)}

    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> list[harness.TableRow]:
        return [*super().reduce(latent, requests, responses), harness.TableRow("n_senses", 0.5, 1)]


class AlsoEndless(Good):
    also: ClassVar[dict[str, tuple[float, float]]] = {"n_senses": (-math.inf, math.inf)}


class NaN(Good):
    def value(self, latent: harness.Latent) -> float:
        return super().value(latent) if latent.sign > 0 else math.nan


class DrawsGlobally(Good):
    def value(self, latent: harness.Latent) -> float:
        return random.random()


class ActiveFirst(Good):
    """Takes the first half for the active windows."""

    def value(self, latent: harness.Latent) -> float:
        peak = latent.explain[0]
        token = peak.tokens[peak.activations.index(max(peak.activations))]
        half = len(latent.test) // 2
        hits = [token in window.tokens for window in latent.test]
        return (sum(hits[:half]) / half + 1 - sum(hits[half:]) / half) / 2


class DividesByZero(Good):
    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        return []

    def value(self, latent: harness.Latent) -> float:
        return super().value(latent) + 0 / len(latent.test)


class ChangesResponses(Good):
    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        super().plan(latent)
        return [harness.Embed(("a text", "another text"))]

    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> list[harness.TableRow]:
        responses[0] *= 2
        return super().reduce(latent, requests, responses)


class SpeaksOfOthers(Peeks):
    """Gives verdicts on windows that it was to learn from."""

    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> list[harness.TableRow]:
        (row,) = super().reduce(latent, requests, responses)
        return [dataclasses.replace(row, verdicts=[harness.Verdict(latent.explain[0], True, True)])]


BROKEN: dict[type, tuple[str, str]] = {
    GivesNumbers: ("gives_its_metric_in_its_range", "give harness.TableRows, in a list or one by one"),
    Peeks: ("is_at_chance_for_noise", "mean auroc of 1.000"),
    WrongWayRound: ("is_not_below_chance_for_a_word", "sign of the score"),
    Remembers: ("is_pure", "must not remember"),
    OtherMetric: ("gives_its_metric_in_its_range", r"gives \['accuracy'\]; its metric 'auroc'"),
    Percent: ("gives_its_metric_in_its_range", "outside"),
    AlsoOutside: ("gives_its_metric_in_its_range", r"n_senses is 0.5, outside \(1.0, inf\)"),
    AlsoEndless: ("says_what_it_is", "one finite end"),
    NaN: ("bears_latents_with_little_to_show", "nan for a latent of the negative pole"),
    DrawsGlobally: ("repeats_itself", "np.random.default_rng"),
    ActiveFirst: ("does_not_mind_the_order_of_windows", "not by their place"),
    DividesByZero: ("bears_latents_with_little_to_show", r"without windows makes it fail .* Raise harness.Undefined"),
    SpeaksOfOthers: ("says_what_it_may_of_windows", "none of latent.test"),
    ChangesResponses: ("is_pure", "changed the responses"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    name, message = BROKEN[make]
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, ScorerUnderTest(make))
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem


class GivesOneByOne(Good):
    def plan(self, latent: harness.Latent) -> Any:
        return tuple(super().plan(latent))

    def reduce(self, latent: harness.Latent, requests: list[Any], responses: list[Any]) -> Any:
        yield from super().reduce(latent, requests, responses)


@pytest.mark.parametrize("make", [Good, GivesOneByOne])
def test_what_conforms_passes(make: Any) -> None:
    assert all(finding.outcome == "holds" for finding in check_scorer(make))
