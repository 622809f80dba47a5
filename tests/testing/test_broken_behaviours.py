"""Behaviours that each break one promise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Contrast
from harness.testing import check_behaviour
from harness.testing.behaviours import CHECKS, BehaviourUnderTest
from harness.testing.checks import run_check
from harness.testing.registration import Registration

WORDS = ("key", "dog", "car", "book", "tree", "bird")
PAIRS = [Contrast(f"The {word}s", f"The {word}", " are", " is", word) for word in WORDS]


class Good:
    def contrasts(self) -> Iterator[Contrast]:
        for pair in PAIRS:
            yield pair
            yield Contrast(pair.patch, pair.clean, pair.wrong, pair.right, pair.group)


class Tuples(Good):
    def contrasts(self) -> Iterator[Any]:
        return (("a", "b", " c", " d", "e") for _ in range(8))


class BlankGroups(Good):
    def contrasts(self) -> Iterator[Contrast]:
        return (replace(pair, group=" ") for pair in super().contrasts())


class TwoGroups(Good):
    def contrasts(self) -> Iterator[Contrast]:
        return (replace(pair, group=str(pair.group in WORDS[:3])) for pair in super().contrasts())


class AlwaysRight(Good):
    def contrasts(self) -> Iterator[Contrast]:
        return (replace(pair, wrong=pair.right) for pair in super().contrasts())


class PatchesNothing(Good):
    def contrasts(self) -> Iterator[Contrast]:
        return (replace(pair, patch=pair.clean) for pair in super().contrasts())


class LongerPatches(Good):
    def contrasts(self) -> Iterator[Contrast]:
        return (replace(pair, patch=f"{pair.patch} there") for pair in super().contrasts())


class NumbersItsPairs(Good):
    """The keys / the key are of one group, the key / the keys of another."""

    def contrasts(self) -> Iterator[Contrast]:
        return (replace(pair, group=str(number)) for number, pair in enumerate(super().contrasts()))


class Shuffles(Good):
    def contrasts(self) -> Iterator[Contrast]:
        return iter(random.sample(PAIRS, len(PAIRS)))


class IsUsedUp(Good):
    def __init__(self) -> None:
        self.left = super().contrasts()

    def contrasts(self) -> Iterator[Contrast]:
        return self.left


BROKEN: dict[type, tuple[str, str]] = {
    Tuples: ("gives_contrasts", "contrast 0 is a tuple"),
    BlankGroups: ("gives_contrasts", "group of contrast 0 is ' '"),
    TwoGroups: ("gives_contrasts", "12 contrasts in 2 groups"),
    AlwaysRight: ("asks_a_question", "right and wrong of contrast 0 are both ' are'"),
    PatchesNothing: ("asks_a_question", "clean and patch of contrast 0 are both"),
    LongerPatches: ("keeps_words_in_their_places", "contrast 0: clean has 2 words, patch 3"),
    NumbersItsPairs: ("keeps_groups_apart", "'The key' is of group '1', and of '0'"),
    Shuffles: ("repeats_itself", "the second time"),
    IsUsedUp: ("repeats_itself", "there are 0 contrasts the second time, and 12"),
}
NAMED = """
import dataclasses, harness
@dataclasses.dataclass
class Config:
    shuffled: bool = False
    '''The control.'''
class Named:
    def __init__(self, config):
        self.config = config
    def contrasts(self):
        for word in {words}:
            yield harness.Contrast(f"The {{word}}s", f"The {{word}}", " are", " is", str({group}))
@harness.hookimpl
def harness_specs():
    return [harness.BehaviourSpec("named", 1, "Pairs", Named, Config)]
"""


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    _assert_found(BehaviourUnderTest(make), *BROKEN[make])


@pytest.mark.parametrize(
    ("words", "group", "check", "problem"),
    [
        (WORDS, "hash(word)", "is_the_same_in_another_process", "contrasts or ids: seed with numbers"),
        (set(WORDS), "word", "is_the_same_in_another_process", "other order"),
        (WORDS, "word", "exchanges_answers_in_its_control", "in 0 of 6 contrasts"),
    ],
)
def test_it_is_found_by_its_name(words: Any, group: str, check: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "named.py").write_text(NAMED.format(words=words, group=group))
    declared = Registration("behaviour", "named", {}, (str(tmp_path / "named.py"),))
    _assert_found(BehaviourUnderTest(declared.create, declared), check, problem)


def test_what_conforms_passes() -> None:
    outcomes = {finding.check: finding.outcome for finding in check_behaviour(Good)}
    assert {name for name, outcome in outcomes.items() if outcome != "holds"} == {
        *("is_the_same_in_another_process", "exchanges_answers_in_its_control", "follows_its_files_in_its_identity"),
    }


def _assert_found(subject: BehaviourUnderTest, name: str, problem: str) -> None:
    (check,) = (check for check in CHECKS if check.__name__ == name)
    found = run_check(check, subject)
    assert problem in (found.problem or ""), found
