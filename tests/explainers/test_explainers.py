"""Explainers: what they say of made-up windows, and what they make of a judge that answers amiss."""

from __future__ import annotations

from typing import Any

import pytest

import harness
from harness.contracts.explainer import to_explain
from harness.plugins.explainers.judge_written import MAX_CHARACTERS, level
from harness.testing import check_explainer, raise_problems
from harness.testing.examples import planted


def _reduced(name: str, latent: harness.Latent, *responses: Any) -> str:
    explainer = harness.create("explainer", name)
    return str(explainer.reduce(latent, explainer.plan(latent), list(responses)))


@pytest.mark.parametrize("name", [spec.name for spec in harness.catalog("explainer")])
def test_built_ins_conform(name: str) -> None:
    findings = check_explainer(name)
    raise_problems(findings)
    asks_nobody = name == "token_statistics"
    assert [finding.check for finding in findings if finding.outcome != "holds"] == (
        ["takes_no_failure_for_an_answer"] if asks_nobody else []
    )


def test_the_kit_finds_what_is_wrong() -> None:
    class Apologises:
        """Remembers, sees nothing amiss, and says so."""

        def __init__(self) -> None:
            self.seen = 0

        def plan(self, latent: harness.Latent) -> list[Any]:
            return [harness.Generate("s", latent.explain[0].text, 9)]

        def reduce(self, latent: harness.Latent, requests: Any, responses: Any) -> str:
            self.seen += 1
            return f"Explanation {self.seen} could not be parsed."

    broken = {finding.check for finding in check_explainer(Apologises) if finding.outcome == "fails"}
    assert broken == {"is_pure", "takes_no_failure_for_an_answer", "bears_latents_with_little_to_show"}


def test_nothing_of_the_test_half_is_to_be_seen() -> None:
    latent = planted(0)
    shown = to_explain(latent)
    assert latent.test and latent.other and latent.explanation
    assert (shown.test, shown.near_test, shown.other, shown.explanation) == ((), (), None, None)
    assert shown.explain == latent.explain


def test_an_explanation_names_ngrams_and_shows_contexts() -> None:
    tokens = tuple(f" w{i}" for i in range(20))
    strong, weak = tuple(5.0 * (i == 9) for i in range(20)), tuple(1.0 * (i == 0) for i in range(20))
    windows = (
        harness.LatentWindow("a", tokens, weak, True, "random"),
        harness.LatentWindow("b", tokens, strong, True, "top"),
    )
    ngrams, contexts = _reduced("token_statistics", harness.Latent(0, 1, 0.0, windows, ())).split(": ")
    assert ngrams.split(", ")[0] == "w9"
    assert contexts == f"{' '.join(f'w{i}' for i in range(4, 15))} ... w0 w1 w2 w3 w4 w5"


def test_a_judge_sees_active_windows_with_marks_and_levels() -> None:
    windows = (
        harness.LatentWindow("a", (" no", " such", " thing"), (0.0, 0.0, 0.0), False, "silent"),
        harness.LatentWindow("b", (" a", " b", " c"), (1.0, 0.0, 0.04), True, "random"),
        harness.LatentWindow("c", (" the", " <river", " bank"), (0.0, 4.0, 1.2), True, "top"),
    )
    (request,) = harness.create("explainer", "judge_written").plan(harness.Latent(0, 1, 0.05, windows, ()))
    first, second, question = request.user.split("\n\n")
    assert first == "Text: the <<‹river bank>>\nActive: <river 10, bank 3"
    assert second == "Text: <<a>> b c\nActive: a 3"  # c is not above the threshold
    assert question == "The phrase:" and "such" not in request.user


def test_levels_are_rounded_up() -> None:
    assert [level(activation, 2.0) for activation in (2.0, 1.81, 1.8, 0.2, 0.01)] == [10, 10, 9, 1, 1]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("names of rivers", "names of rivers"),
        ("  \n “names of rivers”\nThey are all wet.", "names of rivers"),
        ("<think>\nRivers, or banks?\n</think>\n\nnames of rivers", "names of rivers"),
        ("Rivers, or banks?\n</think>names of rivers", "names of rivers"),
        ("<think>\nRivers, or", None),
        ("[THINK]Rivers, or banks?[/THINK]names of rivers", "names of rivers"),
        ("<reasoning>\nRivers, or", None),
        ("...", None),
        ("", None),
        ("x" * (MAX_CHARACTERS + 1), None),
        (harness.Failure("timed out"), None),
    ],
)
def test_an_answer_that_is_no_phrase_is_no_explanation(answer: Any, text: str | None) -> None:
    if text is None:
        with pytest.raises(harness.Undefined, match="the judge"):
            _reduced("judge_written", planted(0), answer)
    else:
        assert _reduced("judge_written", planted(0), answer) == text


def test_an_answer_may_be_as_long_as_is_said() -> None:
    for params, expected in (({}, 32), ({"max_tokens": 2000}, 2000)):
        (request,) = harness.create("explainer", "judge_written", **params).plan(planted(0))
        assert request.max_tokens == expected
    with pytest.raises(harness.ConfigError, match="max_tokens is 0; give 1 or more"):
        harness.create("explainer", "judge_written", max_tokens=0)
