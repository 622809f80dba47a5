"""Verdicts of scorers on single windows, next to the scores that they make of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.testing.examples import planted

Judge = Any


def _main(name: str, of: harness.Latent, answer: Judge, **params: Any) -> harness.TableRow:
    scorer = harness.create("scorer", name, **params)
    requests = scorer.plan(of)
    rows = scorer.reduce(of, requests, [answer(request) for request in requests])
    (main,) = (row for row in rows if row.metric == scorer.metric)
    assert not any(row.verdicts for row in rows if row is not main)
    return main


def _line(window: harness.LatentWindow) -> str:
    return " ".join(window.text.split())


def _listed(text: str) -> list[str]:
    return [line[3:] for line in text.splitlines() if line[:1].isdecimal() and line[1:3] == ". "]


@pytest.mark.parametrize("n_found", [0, 7, 20])
def test_an_intruder_is_found_or_not_and_shown_with_the_others(n_found: int) -> None:
    """The judge sees through some silent windows, and else holds the first text to be foreign that isn't."""
    of = planted(4)
    silent = [window for window in of.test if not window.is_active]
    seen_through = {_line(window) for window in silent[:n_found]}
    texts = {_line(window) for window in silent}

    def judge(request: harness.Choose) -> tuple[float, ...]:
        shown = _listed(request.user)
        intruder = next(place for place, text in enumerate(shown) if text in texts)
        guess = intruder if shown[intruder] in seen_through else (intruder + 1) % 5
        return tuple(math.log(0.6 if place == guess else 0.1) for place in range(5))

    main = _main("intruder", of, judge)
    assert [verdict.window for verdict in main.verdicts] == silent
    assert all(verdict.label is True for verdict in main.verdicts)
    assert [verdict.says for verdict in main.verdicts] == [True] * n_found + [False] * (20 - n_found)
    assert main.value == n_found / 20
    for verdict in main.verdicts:
        shown = _listed(verdict.shown or "")
        assert len(shown) == 5 and _line(verdict.window) in shown and texts & set(shown) == {_line(verdict.window)}
    if n_found == 20:  # by design each place has the intruder as often: only the preference for it is left
        scores = np.array([verdict.score for verdict in main.verdicts])
        odds = math.exp(math.log(6) * 0.8), math.exp(-math.log(6) * 0.2)
        assert scores == pytest.approx(odds[0] / (odds[0] + 4 * odds[1]))


def test_a_judge_who_sees_no_difference_finds_nobody() -> None:
    main = _main("intruder", planted(4), lambda request: (-5.0, -0.1, -3.0, -4.0, -0.7))
    assert main.value == pytest.approx(0.2)
    assert {verdict.says for verdict in main.verdicts} == {False}
    assert [verdict.score for verdict in main.verdicts] == pytest.approx([0.2] * 20)


def test_a_trial_without_an_answer_has_a_reason() -> None:
    answers = iter([harness.Failure("timed out")] * 3 + [(-1.0, -2.0, -3.0, -4.0, -5.0)] * 37)
    main = _main("intruder", planted(4), lambda request: next(answers))
    assert [verdict.reason for verdict in main.verdicts] == ["timed out"] * 3 + [None] * 17
    assert [verdict.says is None for verdict in main.verdicts] == [True] * 3 + [False] * 17


def test_the_encoder_finds_what_is_least_like_the_others() -> None:
    """Active windows are alike, and so is every fourth silent one."""
    of = planted(4)
    silent = [_line(window) for window in of.test if not window.is_active]

    def embed(request: harness.Embed) -> torch.Tensor:
        e = torch.zeros(len(request.texts), 2)
        for row, text in zip(e, request.texts, strict=True):
            is_foreign = " ".join(text.split()) in silent and silent.index(" ".join(text.split())) % 4
            row[int(bool(is_foreign))] = 1.0
        return e

    main = _main("embedding_intruder", of, embed)
    said = {(place % 4 > 0, verdict.says, verdict.score) for place, verdict in enumerate(main.verdicts)}
    assert [_line(verdict.window) for verdict in main.verdicts] == silent
    assert said == {(True, True, 0.75), (False, False, 0.0)}
    assert main.value == pytest.approx(0.75 + 0.25 / 5)  # where all are alike five share the guess


def test_simulation_says_of_a_window_what_it_says_of_its_strongest_token() -> None:
    """The digit is the length of the marked word, and 9 for the latent's own."""
    of = planted(5)

    def judge(request: harness.Choose) -> Any:
        word = request.user.split("Text: ")[1].split("<<")[1].split(">>")[0]
        digit = 9 if word == "word8" else len(word) - 4
        return tuple(0.0 if choice == str(digit) else -1e3 for choice in request.choices)

    main = _main("simulation", of, judge)
    assert len(main.verdicts) == 10 and sum(verdict.label for verdict in main.verdicts) == 5
    for verdict in main.verdicts:
        assert verdict.label is verdict.says is verdict.window.is_active
        assert verdict.score == pytest.approx(9 if verdict.label else 3, abs=1.01)
        if verdict.label:
            assert "<<word8>>" in (verdict.shown or "")

    first = main.verdicts[0].window

    def failing(request: harness.Choose) -> Any:
        is_first = _line(first) in request.user.replace("<<", "").replace(">>", "")
        return harness.Failure("no") if is_first else judge(request)

    partly = _main("simulation", of, failing).verdicts
    assert (partly[0].says, partly[0].score, partly[0].reason) == (None, None, "no")
    assert all(verdict.says is verdict.label for verdict in partly[1:])


def test_out_of_context_a_window_is_what_its_token_is() -> None:
    """Active out of context on every second token, whose activation is the window's number; the last is cut in two."""
    of = planted(4)
    active = [window for window in of.test if window.is_active]

    def model(request: harness.Activate) -> list[harness.Activated]:
        found = []
        for number, (window, text) in enumerate(zip(active, request.texts, strict=True)):
            place = text.index(window.peak_token)
            tokens = text[:place], window.peak_token, text[place + len(window.peak_token) :]
            if number == len(active) - 1:
                tokens = tokens[0], tokens[1][:2], tokens[1][2:] + tokens[2]
            peak = of.threshold + 1 + number if number % 2 else of.threshold
            found.append(harness.Activated(tokens, (0.0, peak, 0.0)))
        return found

    scorer = harness.create("scorer", "context_dependence")
    own, others = scorer.plan(of)
    silent = [harness.Activated((text,), (0.0,)) for text in others.texts]
    main, control = scorer.reduce(of, [own, others], [model(own), silent])
    *known, cut = main.verdicts
    assert [verdict.window for verdict in main.verdicts] == active and all(verdict.label for verdict in main.verdicts)
    assert [verdict.says for verdict in known] == [bool(number % 2) for number in range(len(known))]
    assert [verdict.score for verdict in known[1::2]] == [of.threshold + 2 + 2 * i for i in range(len(known[1::2]))]
    assert (cut.says, cut.score) == (None, None) and "does not come out" in (cut.reason or "")
    assert main.value == pytest.approx(sum(bool(verdict.says) for verdict in known) / main.n) and main.n == len(known)
    for verdict, text in zip(main.verdicts, own.texts, strict=True):
        assert f"<<{verdict.window.peak_token}>>" in (verdict.shown or "")
        assert (verdict.shown or "").replace("<<", "").replace(">>", "") == text
    assert not control.verdicts


def test_a_window_is_read_where_its_strongest_token_is_promoted() -> None:
    of = planted(4)
    turned = [
        dataclasses.replace(window, tokens=tuple(token.upper() for token in window.tokens)) if number % 3 else window
        for number, window in enumerate(of.test)
    ]
    active = [window for window in turned if window.is_active]
    latent = dataclasses.replace(of, test=tuple(turned), direction=torch.ones(4), other=None)
    promoted = harness.Promoted(torch.arange(1), (" word7",), torch.zeros(1, 4))
    scorer = harness.create("scorer", "input_score")
    main, *rest = scorer.reduce(latent, scorer.plan(latent), [[promoted], [promoted]])
    assert [verdict.window for verdict in main.verdicts] == active
    assert [verdict.says for verdict in main.verdicts] == [window.peak_token == " word7" for window in active]
    assert {verdict.says for verdict in main.verdicts} == {True, False}
    assert all(verdict.label for verdict in main.verdicts) and not any(row.verdicts for row in rest)


def test_a_simulation_that_says_the_same_of_all_holds_no_window_for_active() -> None:
    main = _main("simulation", planted(0), lambda request: (-1.0,) * 10)
    assert main.value is None and {verdict.says for verdict in main.verdicts} == {False}


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_written_answers_may_be_as_long_as_is_said(name: str) -> None:
    of = planted(0)
    for params, expected in (({}, 128), ({"max_tokens": 4000}, 4000)):
        requests = harness.create("scorer", name, **params).plan(of)
        assert {request.max_tokens for request in requests} == {expected}
    with pytest.raises(harness.ConfigError, match="max_tokens is -1; give 1 or more"):
        harness.create("scorer", name, max_tokens=-1)
