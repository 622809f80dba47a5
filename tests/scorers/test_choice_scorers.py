"""Choice scorers with scripted judges: what they find, and what they can't be cheated with."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import harness
from harness.plugins.scorers.choice_fuzzing import MARKS, marked, partners
from harness.testing.examples import at_random, latent, on_token, planted

SCORERS = ("choice_detection", "choice_fuzzing")
Says = Callable[[str, str], float]
"""The log-odds of Yes, by the explanation and the text."""


def _rows(name: str, of: harness.Latent, says: Says, fails: Callable[[int], bool] = lambda number: False) -> Any:
    scorer = harness.create("scorer", name)
    requests = scorer.plan(of)
    responses: list[Any] = []
    for number, request in enumerate(requests):
        about, text = request.user.removeprefix("Pattern: ").split("\n\nText: ")
        log_odds = says(about, text.rpartition("\n")[0])
        responses.append(harness.Failure("no") if fails(number) else (log_odds - 1, -1.0))
    return {row.metric: row for row in scorer.reduce(of, requests, responses)}


def _shares_a_word(about: str, text: str) -> float:
    """Looks for the explanation's first n-gram, in what is marked if anything is; and likes short texts."""
    shown = " ".join(re.findall("<<(.*?)>>", text)) or text
    word = about.split(":")[0].split(",")[0].split()
    return (word[-1] in shown.split() if word else 0) - len(text) / 50


def _by_marks_only(about: str, text: str) -> float:
    """Another opinion of every set of marked places for every explanation."""
    places = [place for place, word in enumerate(text.split()) if MARKS[0] in word]
    return hashlib.sha256(f"{about}{places}".encode()).digest()[0] / 255


def _by_text_only(about: str, text: str) -> float:
    return hashlib.sha256(f"{about}{text.translate(str.maketrans('', '', '<>'))}".encode()).digest()[0] / 255


@pytest.mark.parametrize("name", SCORERS)
def test_a_word_is_found_and_noise_is_not(name: str) -> None:
    found = _rows(name, planted(0), _shares_a_word)
    assert found["auroc"].value > 0.95 and found["balanced_accuracy"].value > 0.95
    assert found["answered"].value == 1
    assert abs(found["auroc_random_explanation"].value - 0.5) < 0.2
    noise = [_rows(name, latent(at_random(), i), _shares_a_word)["auroc"].value for i in range(20)]
    assert abs(np.mean(noise) - 0.5) < 3 * np.std(noise, ddof=1) / 20**0.5


def test_marks_alone_or_texts_alone_tell_nothing() -> None:
    """With marks at random places, or in silent windows, both would."""
    for of in (planted(1), latent(at_random(0.15), 5)):
        assert _rows("choice_fuzzing", of, _by_marks_only)["auroc"].value == 0.5
        found = _rows("choice_fuzzing", of, _by_text_only)["auroc"].value
        assert abs(found - 0.5) < 0.1  # the windows of both sides are nearly the same


def test_wrong_marks_are_at_the_places_of_right_ones_and_on_no_active_token() -> None:
    of = latent(at_random(0.15), 7)
    cases = harness.create("scorer", "choice_fuzzing").cases(of)
    places: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    for window, text in cases:
        # Marks run on over neighbours: count words between opening and closing.
        shown, inside = [], False
        for place, word in enumerate(text.split()):
            inside = inside or word.startswith(MARKS[0])
            shown += [place] if inside else []
            inside = inside and not word.endswith(MARKS[1])
        places[window.is_active].append(tuple(shown))
        active = {place for place, activation in enumerate(window.activations) if activation > 0}
        assert set(shown) == active if window.is_active else not set(shown) & active
    assert sorted(places[True]) == sorted(places[False]) and len(places[True]) >= 5


def test_a_latent_at_one_place_only_cannot_be_fuzzed() -> None:
    of = latent(lambda tokens, generator: [float(tokens[0] == " word1"), *[0.0] * (len(tokens) - 1)], 3)
    with pytest.raises(harness.Undefined, match="0 active test windows can lend"):
        harness.create("scorer", "choice_fuzzing").plan(of)


def test_partners_have_the_places() -> None:
    assert partners([{0, 9}, {1}], [10, 5]) == [(1, 0)]
    assert sorted(partners([{0}, {1}, {2}], [3, 3, 3])) in ([(0, 1), (1, 2), (2, 0)], [(0, 2), (1, 0), (2, 1)])


def test_marks_are_told_from_what_the_text_has() -> None:
    window = harness.LatentWindow("d", ("a", " <", "<b", " c", ">>"), (0, 1, 1, 0, 1), True, "top")
    assert marked(window, [1, 2, 4]) == "a <<‹‹b>> c<<››>>"


@pytest.mark.parametrize("name", SCORERS)
def test_what_was_not_answered_is_left_out_and_told(name: str) -> None:
    of = planted(2)
    n = len(harness.create("scorer", name).plan(of)) // 3
    found = _rows(name, of, _shares_a_word, fails=lambda number: number == n + 1)  # one, under no explanation
    assert found["auroc"].value > 0.95 and found["auroc"].n == n - 1
    assert found["answered"].value == pytest.approx(1 - 1 / n)
    found = _rows(name, of, _shares_a_word, fails=lambda number: number < n - 3)
    assert found["auroc"].value is None and "fewer than 5" in found["auroc"].reason
    assert found["answered"].value == pytest.approx(3 / n)


@pytest.mark.parametrize("name", SCORERS)
def test_without_another_latent_there_is_no_control(name: str) -> None:
    found = _rows(name, dataclasses.replace(latent(on_token(" word3"), 0), other=None), _shares_a_word)
    assert found["auroc_random_explanation"].value is None and found["auroc"].value > 0.95
