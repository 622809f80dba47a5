"""Judges that each break one promise."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

import harness
from harness.testing import check_judge, conforms
from harness.testing.checks import run_check
from harness.testing.judges import CHECKS, JudgeUnderTest


class Good:
    """Likes short texts."""

    def choose(self, requests: Any) -> Any:
        return (self.chosen(request) for request in requests)

    def generate(self, requests: Any) -> list[Any]:
        return [harness.Metered(request.user[: request.max_tokens], 3, 1) for request in requests]

    def likelihood(self, requests: Any) -> list[Any]:
        return [(-float(len(request.text)), len(request.text.split())) for request in requests]

    def embed(self, requests: Any) -> list[Any]:
        return [self.embedded(request) for request in requests]

    def embedded(self, request: harness.EmbedText) -> Any:
        return len(request.text) + 1.0, float(request.text.count("a"))

    def chosen(self, request: harness.Choose) -> Any:
        return tuple(-len(choice) - len(request.user) / 7 for choice in request.choices)


class Answers99(Good):
    def chosen(self, request: harness.Choose) -> Any:
        return 0.9, 0.1


class NaN(Good):
    def likelihood(self, requests: Any) -> list[Any]:
        return [(math.nan, 1) for _ in requests]


class LosesOne(Good):
    def generate(self, requests: Any) -> list[Any]:
        return super().generate(requests)[:3]


class ShortestFirst(Good):
    """Sorts, and forgets to sort back."""

    def choose(self, requests: Any) -> Any:
        return super().choose(sorted(requests, key=lambda request: len(request.user)))


class Normalises(Good):
    """By the largest of the batch."""

    def likelihood(self, requests: Any) -> list[Any]:
        found = super().likelihood(requests)
        return [(total / max(n for _, n in found), n) for total, n in found]


class Remembers(Good):
    def __init__(self) -> None:
        self.n = 0

    def chosen(self, request: harness.Choose) -> Any:
        self.n += 1
        return tuple(value - self.n for value in super().chosen(request))


class Draws(Good):
    """Draws a number for each judge, so that the next one answers otherwise."""

    def __init__(self) -> None:
        self.drawn = random.random()

    def chosen(self, request: harness.Choose) -> Any:
        return tuple(value - self.drawn for value in super().chosen(request))


class Pops(Good):
    def generate(self, requests: Any) -> list[Any]:
        if isinstance(requests, tuple) or not requests:
            return super().generate(requests)
        return [super(Pops, self).generate([requests.pop(0)])[0] for _ in range(len(requests))]


class Divides(Good):
    def likelihood(self, requests: Any) -> list[Any]:
        return [(-len(request.text) / len(request.context.split()), 1) for request in requests]


class EmbedsBeyondNumbers(Good):
    def embedded(self, request: harness.EmbedText) -> Any:
        return math.inf, 1.0


class EmbedsNowhere(Good):
    def embedded(self, request: harness.EmbedText) -> Any:
        return 0.0, 0.0


class EmbedsInAList(Good):
    def embedded(self, request: harness.EmbedText) -> Any:
        return [1.0, 2.0]


class EmbedsLetters(Good):
    """As many numbers as the text has letters."""

    def embedded(self, request: harness.EmbedText) -> Any:
        return tuple(map(float, map(ord, request.text))) or (1.0,)


class Pads(Good):
    """To the length of the longest beside it; what both have is the same."""

    def embed(self, requests: Any) -> list[Any]:
        return [(1.0, *[0.0] * len(requests)) for _ in requests]


class Centres(Good):
    """On the mean of the batch."""

    def embed(self, requests: Any) -> list[Any]:
        found = super().embed(requests)
        mean = sum(own[0] for own in found) / max(1, len(found))
        return [(own[0] - mean, 1.0) for own in found]


class ProvidesNothing:
    pass


BROKEN: dict[type, tuple[str, str]] = {
    Answers99: ("answers_what_is_asked", "above 0"),
    NaN: ("answers_what_is_asked", "finite numbers"),
    LosesOne: ("answers_what_is_asked", "3 responses to 4 requests"),
    ShortestFirst: ("keeps_the_order", "in another order"),
    Normalises: ("answers_alone_as_together", "must not matter"),
    Remembers: ("answers_alone_as_together", "must not matter"),
    Draws: ("repeats_itself", "fresh judge"),
    Pops: ("leaves_requests_as_they_are", "Work on a copy"),
    Divides: ("bears_odd_texts", "ZeroDivisionError"),
    EmbedsBeyondNumbers: ("answers_what_is_asked", "finite numbers"),
    EmbedsNowhere: ("answers_what_is_asked", "not all 0"),
    EmbedsInAList: ("answers_what_is_asked", "give a tuple"),
    EmbedsLetters: ("answers_what_is_asked", "as many for each text"),
    Pads: ("answers_alone_as_together", "must not matter"),
    Centres: ("answers_alone_as_together", "must not matter"),
    ProvidesNothing: ("can_be_asked_what_it_provides", "none of the methods"),
}


@pytest.mark.parametrize("judge", BROKEN)
def test_what_is_broken_is_found(judge: type) -> None:
    name, message = BROKEN[judge]
    finding = next(finding for finding in check_judge(judge) if finding.check == name)
    assert finding.outcome == "fails" and message in str(finding.problem)


@conforms("judge", Good)
def test_a_good_one_conforms(check: Any) -> None:
    check()


def test_a_method_that_its_spec_names_must_be_there() -> None:
    finding = run_check(CHECKS[0], JudgeUnderTest(Good, ("choose", "sing")))
    assert "['sing']" in str(finding.problem)
    finding = run_check(CHECKS[0], JudgeUnderTest(ProvidesNothing, ("choose",)))
    assert "no such methods" in str(finding.problem)
