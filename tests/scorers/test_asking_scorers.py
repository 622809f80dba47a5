"""Scorers that ask a judge, with scripted judges: what they find, what they can't be cheated with, what failures do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr

import harness
from harness.plugins.scorers import written
from harness.plugins.scorers.asking import NOTHING
from harness.plugins.scorers.written import ABSTAINED, NO, UNREADABLE, YES, read_answers
from harness.testing.examples import at_random, latent, on_token, planted
from tests.support import planted as on_real_text

SCORERS = ("surprisal", "simulation", "intruder", "detection", "fuzzing")
WRITTEN = ("detection", "fuzzing")
LETS_NEGATIVES_BE_CHOSEN = ("choice_detection", "surprisal", "simulation", "intruder", "detection")
Judge = Callable[[Any], Any]
Rows = dict[str, harness.TableRow]


def _rows(name: str, of: harness.Latent, judge: Judge, **params: Any) -> Rows:
    scorer = harness.create("scorer", name, **params)
    requests = scorer.plan(of)
    return {row.metric: row for row in scorer.reduce(of, requests, [judge(request) for request in requests])}


def _numbered(texts: str) -> list[str]:
    return re.findall(r"^\d\. (.*)$", texts, re.MULTILINE)


def _words(text: str) -> set[str]:
    """Those that are marked, if any is."""
    return set(re.findall(r"\w+", " ".join(re.findall("<<(.*?)>>", text)) or text))


def _by_word(request: Any) -> Any:
    """Looks for the explanation's first n-gram; of five texts, for one without a word that all others have."""
    if isinstance(request, harness.Likelihood):
        about = request.context.split(": ")[1].partition("\n")[0]
        n = len(request.text.split())
        return _has(about, request.text) - 2.0 * n, n
    about, _, shown = request.user.partition("\n\n")
    if isinstance(request, harness.Generate):
        return json.dumps({"answers": [int(_has(about, text)) for text in _numbered(shown)]})
    if request.choices[0] == "1":
        texts = [{word for word in _words(text) if len(word) > 4} for text in _numbered(shown)]
        others = [set.intersection(*texts[:place], *texts[place + 1 :]) for place in range(5)]
        return tuple(float(len(shared - own)) for own, shared in zip(texts, others, strict=True))
    text = shown.partition("\n")[0]
    return tuple(-abs(int(choice) - 9 * _has(about, text)) for choice in request.choices)


def _has(about: str, text: str) -> float:
    ngram = re.findall(r"\w+", about.removeprefix("Pattern: ").split(":")[0].split(",")[0])
    return float(NOTHING not in about and set(ngram[-1:]) <= _words(text))


def _chance_is_in(name: str, values: list[float | None]) -> bool:
    known = [value for value in values if value is not None]  # some say the same of every token that is asked about
    assert len(known) > len(values) / 2
    error = np.std(known, ddof=1) / len(known) ** 0.5
    return bool(abs(np.mean(known) - harness.create("scorer", name).chance) < 3 * error)


@pytest.mark.parametrize("name", SCORERS)
def test_a_word_is_found_and_noise_is_not(name: str) -> None:
    metric = harness.create("scorer", name).metric
    found = _rows(name, planted(4), _by_word)
    assert found[metric].value > (0.4 if name == "intruder" else 0.7) and found["answered"].value == 1
    noise = [_rows(name, latent(at_random(), i), _by_word)[metric].value for i in range(20)]
    assert _chance_is_in(name, noise)


def test_on_real_text_both_poles_of_a_code_are_found() -> None:
    signed = on_real_text.signed(on_real_text.token(" River"), on_real_text.token(" British"))
    positive, negative = (on_real_text.plant(signed, 1, sign) for sign in (1, -1))
    for name in SCORERS:
        metric = harness.create("scorer", name).metric
        found = _rows(name, dataclasses.replace(positive, other=negative), _by_word)
        assert found[metric].value > (0.4 if name == "intruder" else 0.7), name
        control = found.get(f"{metric}_random_explanation", found.get(f"{metric}_random_windows"))
        assert control is not None and (control.value is None or control.value < 0.6), name


def test_a_judge_of_places_alone_tells_nothing() -> None:
    """Places of texts in a list, of marks in a text, and of a marked token."""
    for of in (planted(1), latent(at_random(0.15), 5)):
        found = _rows("intruder", of, lambda request: (-5.0, -0.1, -3.0, -4.0, -0.7))
        assert found["accuracy"].value == found["accuracy_random_windows"].value == pytest.approx(0.2)

        def by_marks(request: Any) -> str:
            places = [[place for place, word in enumerate(t.split()) if "<<" in word] for t in _numbered(request.user)]
            return json.dumps([hashlib.sha256(str(own).encode()).digest()[0] % 2 for own in places])

        assert _rows("fuzzing", of, by_marks)["balanced_accuracy"].value == 0.5
    latents = [latent(at_random(0.1), index) for index in range(20)]
    in_list = [_rows("detection", of, lambda request: _list_of(request, 1, 1, 0, 0, 1)) for of in latents]
    assert _chance_is_in("detection", [rows["balanced_accuracy"].value for rows in in_list])

    def by_place(request: Any) -> tuple[float, ...]:
        text = request.user.split("Text: ")[1].split()
        (place,) = (place for place, word in enumerate(text[:12]) if "<<" in word)
        return tuple(-abs(int(choice) - place % 10) for choice in request.choices)

    marked = [_rows("simulation", of, by_place)["ev_correlation"].value for of in latents]
    assert _chance_is_in("simulation", marked)


def _list_of(request: harness.Generate, *answers: int) -> str:
    return json.dumps(answers[: len(_numbered(request.user))])


def test_prompts_do_not_say_how_many_texts_are_positive() -> None:
    of = planted(0)
    requests = harness.create("scorer", "detection").plan(of)[:8]
    frames = {re.sub(r"^(\d\.) .*$", r"\1", request.user, flags=re.MULTILINE) for request in requests}
    assert len(frames) == 1 and not re.search(r"\[.*\]", frames.pop())
    active = {" ".join(window.text.split()) for window in of.test if window.is_active}
    counts = [sum(text in active for text in _numbered(request.user)) for request in requests]
    assert sum(counts) == 20 and len(set(counts)) > 2


@pytest.mark.parametrize("name", WRITTEN)
def test_a_last_prompt_with_fewer_texts_counts(name: str) -> None:
    of = planted(0)
    of = dataclasses.replace(of, test=(*of.test[:18], *of.test[20:]))
    requests = harness.create("scorer", name).plan(of)
    lengths = Counter(len(_numbered(request.user)) for request in requests)
    assert set(lengths) - {5} and max(lengths) == 5
    found = _rows(name, of, _by_word)
    assert found["balanced_accuracy"].value > 0.9 and found["parse_rate"].value == 1
    assert found["balanced_accuracy"].n == sum(k * n for k, n in lengths.items()) / 2


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("[1, 0, null]", "10-"),
        ('{"answers": [1,0,\n1]}', "101"),
        ("The first [it has [a] mark] does. So: [1, 0, 0]. See [note].", "100"),
        ("<think>[0, 0, 0]?</think>[1, 0, 0]", "100"),
        ("[0, 0, 0]?</thinking>\n[1, 0, 0]", "100"),
        ("[THINK][0, 0, 0][/THINK][1, 0, 0]", "100"),
        ("[1, 0, 0]\n<reasoning>Not\n[0, 0, 0]\n</reasoning>", "100"),
        ("[0, 0, 0] at first, but on second thoughts [1, 1, 0]", "110"),
        ("[true, false, null]", "10-"),
        ("[True, False, None]", "10-"),
        ("[1.0, 0.0, 1]", "101"),
        ('["1", "0", "null"]', "10-"),
        ("{'answers': ['Yes', 'no', 'TRUE']}", "101"),
        ("[1, 0, 1,]", "101"),
        ('{"answers": [1, 0, 1,],}', "101"),
        ('{"1": 1, "2": 0, "3": true}', "101"),
        ('{"answers": {"text 3": 0, "text 1": 1, "text 2": 1}}', "110"),
        ("[[1, 0, 1]]", "101"),
        ("[[1], [0], [1]]", "101"),
        ("[1, 0, 1]. Text [1] was the clearest.", "101"),
        ("[1, 0, 1]\n\nA stricter reader would say [0, 0, 0].", "101"),
        ("```json\n[\n  1,\n  0,\n  1\n]\n```\nTexts [1, 3] have it; [0, 0, 0] is wrong.", "101"),
        ("Draft:\n[0, 0, 0]\n\n**Answers:** [1, 0, 1]\nNot [1, 1, 1], since it is no fruit.", "101"),
        ('{"answers": [1, 0, 1]}\nWith "all" it were [1, 1, 1]. See text [1', "101"),
        ('{"why": "as [1] and [0, 0, 0]", "answers": [1, 0, 1], "doubts": [0, 1, 0]}', "101"),
        ("[1, 0, 1]\n\n**Confidence:** [1, 1, 1]", "101"),
        ("Example: [0, 0, 0]\nAnswers: [1, 0, 1]\nScores: [1, 1, 1]", "101"),
        ('{"answers": [\n  1, // it\'s an [apple\n  0,\n  1  # another\n]}', "101"),
        ('{"answers": [{"text": 1, "answer": 1}, {"text": 2, "answer": false}, {"text": 3, "answer": "yes"}]}', "101"),
        ('[{"Answer": 1, "why": "it\'s \'[0, 0, 0]\'"}, {"answer": null}, {"text": "a dog", "answer": 0}]', "1-0"),
        ('{"1": {"answer": 1}, "3": {"answer": 0}, "2": {"answer": 1, "why": "// and # [0]"}}', "110"),
        ('{"answers": [0, 0, 0]}, or rather {"answers": [1, 0, 1]}', "101"),
        ("1, 0, 1", "101"),
        ("**Answers:** yes, no; null.", "10-"),
        ("- Yes\n- No\n\n- Yes\n", "101"),
        ("```\n1,\n0,\n1\n```", "101"),
        ("I thought of [0, 0, 0].\n1. yes\n2. no\n3. yes\nConfidence (0-1): [1, 1, 1]", "101"),
        ("As [0, 0, 0]? No:\ntrue\nfalse\n**null**\nThat is all.", "10-"),
        ("1.0\n0.0\n1.0\n(1 is yes.)", "101"),
        ('[1, 0, 1]\n{"confidence": [1, 1, 1]}', "101"),
        ("Sure! The answer is:\n[1, 0, 1]", "101"),
        ("1. Yes\n2. no - a dog\n3) **null**", "10-"),
        ("Text 1: true\nText 2: false, it says.\nText 3: 1.0", "101"),
        ("1. The cat\n2. The dog\n3. The apple\n\nSo: [0, 0, 1]", "001"),
    ],
)
def test_answers_are_read(answer: str, expected: str) -> None:
    assert read_answers(answer, 3) == [{"1": YES, "0": NO, "-": ABSTAINED}[item] for item in expected]


@pytest.mark.parametrize(
    "answer",
    [
        *("<think>[1, 0, 1]? Or", "[1, 0, 1]</think>", "", "yes", "1 0 1", "[1, 0]", "[1, 0, 1, 0]", "[1, 0, 2]"),
        *("[]", "[0.9, 0.1, 1]", '["maybe", 0, 1]', "[NaN, 0, 1]", "[1 0 1]", "[" * 5000, "[[1, 0, 1], [0, 0, 0]]"),
        *('{"answers": [1, 0, 1', "If all had it: [1, 1, 1]. But [1, 0,", "[1, 0, 1]? No: [1, 1, 0, 0]"),
        *('{"answers": [1, 0]} [1, 0, 1]', '{"0": 1, "1": 0, "2": 1}', '{"1": 1, "2": 0}', '{"1": 1, "01": 0, "2": 1}'),
        *("1, 0", "1, 0, 1, 1", "-1, 0, 1", "1, 0, 1 or so", "Texts: 1, 0, 1", "yes, no"),
        *("<thinking>\n[1, 0, 1]\n", "[THINK] [1, 0, 1]", '{"answers": 1}', "Answer: 1"),
        '[{"id": 2, "answer": 1}, {"id": 1, "answer": 0}, {"id": 3, "answer": 1}]',
        '[{"answer": 1}, {"answer": 0}, {"why": "unclear"}]',
        *("1. yes\n2. no", "1. 0.7\n2. 0\n3. 1", "1. 1 apple\n2. 0\n3. 1", "1. no\n2. no\n3. no\n3. yes"),
    ],
)
def test_what_is_no_answer_to_every_text_is_none_to_any(answer: str) -> None:
    assert read_answers(answer, 3) == [UNREADABLE] * 3


class CountedMatches:
    """A pattern that counts what it finds."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self.n = 0

    def finditer(self, text: str, start: int) -> Any:
        for match in self._pattern.finditer(text, start):
            self.n += 1
            yield match


@pytest.mark.parametrize("unclosed", ["{", "[1, ", '[{"a": ', "[{} "])
def test_brackets_that_never_close_are_not_each_read_to_the_end(unclosed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 of them took some seconds, and twice as many four times as long."""
    counted = CountedMatches(written._BRACKETS)
    monkeypatch.setattr(written, "_BRACKETS", counted)
    assert read_answers(unclosed * 2000, 3) == [UNREADABLE] * 3
    brackets = 2000 * sum(unclosed.count(bracket) for bracket in "[{}")
    assert 0 < counted.n <= 40 * brackets
    assert read_answers("{" * 2000 + '{"answers": [1, 0, 1]}', 3) == [YES, NO, YES]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("[0]. Text [1] has it not.", NO),
        ("[0]. That of [1] has it not.", UNREADABLE),
        ("Text 1: No\n\nText [1] was clear.", NO),
        ("Of texts [1] and [2] one has it.\n\n1.0\nConfidence: [1]", YES),
        ("Confidence:\n[1]", UNREADABLE),
        ("So: [0]", NO),
        ("[0]\nText [1] has it not.", NO),
        ('{"answers": [0]} [1]', NO),
        ("It has it [it], so [1].", YES),
        ("1.0", YES),
        ("1. 0", NO),
        ("1.", YES),
        ("0", NO),
        ("-1", UNREADABLE),
        ("Answer: -1", UNREADABLE),
        ("0.5", UNREADABLE),
        ("**Yes**.", YES),
        ("Answer: null", ABSTAINED),
        ("The answer is **no**.", NO),
        ("```json\ntrue\n```", YES),
        ('{"answers": 0}', NO),
        ('```json\n{"answers": "Yes", "why": "text 1"}\n```', YES),
        ('{"answers": 0.5}', UNREADABLE),
        ("Yes, or no", UNREADABLE),
    ],
)
def test_one_answer_is_told_from_the_number_of_a_text(answer: str, expected: str) -> None:
    assert read_answers(answer, 1) == [expected]


@pytest.mark.parametrize("name", WRITTEN)
def test_texts_without_an_answer_are_left_out_and_told(name: str) -> None:
    """One prompt fails, one breaks off, in one the judge abstains; all other answers are right."""
    of, n_asked = planted(2), []

    def judge(request: Any) -> Any:
        n_asked.append(len(_numbered(request.user)))
        amiss = {1: harness.Failure("no"), 2: '{"answers": [1, 0', 3: "[null, null, null, null, null]"}
        return amiss.get(len(n_asked), _by_word(request))

    found = _rows(name, of, judge)
    n = sum(n_asked) // 2
    assert found["balanced_accuracy"].value == 1 and found["balanced_accuracy"].n == n - 15
    assert found["answered"].value == pytest.approx((n - 5) / n)
    assert found["parse_rate"].value == pytest.approx((n - 10) / (n - 5))
    assert found["abstain_rate"].value == pytest.approx(5 / (n - 10))
    assert found["balanced_accuracy_failures_wrong"].value == pytest.approx(1 - 15 / n, abs=0.1)
    assert found["balanced_accuracy_failures_wrong"].value < 1
    said = Counter((verdict.says is verdict.label, verdict.reason) for verdict in found["balanced_accuracy"].verdicts)
    reasons = {"the request failed": 5, UNREADABLE: 5, ABSTAINED: 5}
    assert said == {(True, None): n - 15} | {(False, reason): count for reason, count in reasons.items()}


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_readable_is_no_score(name: str) -> None:
    found = _rows(name, planted(2), lambda request: "None of these texts, I think.")
    assert found["balanced_accuracy"].value is None and "for 0 of the texts" in found["balanced_accuracy"].reason
    assert (found["answered"].value, found["parse_rate"].value, found["abstain_rate"].value) == (1, 0, None)
    assert found["balanced_accuracy_failures_wrong"].value == 0
    found = _rows(name, planted(2), lambda request: harness.Failure("no"))
    assert (found["answered"].value, found["parse_rate"].value) == (0, None)


@pytest.mark.parametrize("name", ["surprisal", "choice_detection"])
def test_missing_answers_bound_the_auroc(name: str) -> None:
    """With the first active window and one silent window unanswered, 19² of 20² pairs are known to be right."""
    of = planted(2)
    missing = {" ".join(of.test[place].text.split()) for place in (0, -1)}

    def judge(request: Any) -> Any:
        if any(text in (request.text if name == "surprisal" else request.user) for text in missing):
            return harness.Failure("no")
        return _by_word(request) if name == "surprisal" else (_has(*_yes_or_no(request)), 0.0)

    found = _rows(name, of, judge)
    assert found["auroc"].value == 1 and found["auroc"].n == 38
    assert found["auroc_failures_wrong"].value == pytest.approx(19**2 / 20**2)
    assert found["answered"].value == pytest.approx(38 / 40)
    said = [(verdict.says, verdict.reason) for verdict in found["auroc"].verdicts]
    assert said == [(None, "no"), *[(True, None)] * 19, *[(False, None)] * 19, (None, "no")]


def _yes_or_no(request: harness.Choose) -> tuple[str, str]:
    about, _, shown = request.user.partition("\n\nText: ")
    return about, shown.partition("\n")[0]


def test_surprisal_is_per_token_and_less_that_without_explanation() -> None:
    """An explanation that helps every token alike tells nothing, though active windows are longer."""
    of = planted(3)
    short = (dataclasses.replace(w, tokens=w.tokens[:8], activations=w.activations[:8]) for w in of.test[20:])
    of = dataclasses.replace(of, test=(*of.test[:20], *short))

    def judge(request: harness.Likelihood) -> tuple[float, int]:
        n = 16 if len(request.text.split()) == 12 else 8
        own = -float(sum(map(ord, request.text)) % 64)  # what a text costs under any explanation
        return own + n * 0.125 * (NOTHING not in request.context), n

    assert _rows("surprisal", of, judge)["auroc"].value == 0.5
    assert all(request.text.startswith(" word") for request in harness.create("scorer", "surprisal").plan(of))


def test_the_intruder_is_everywhere_alike_and_a_preference_for_places_goes_out() -> None:
    of = planted(4)
    requests = harness.create("scorer", "intruder").plan(of)[:20]
    silent = {" ".join(window.text.split()) for window in of.test if not window.is_active}
    places = [[text in silent for text in _numbered(request.user)] for request in requests]
    assert all(sum(own) == 1 and len(own) == 5 for own in places)
    assert np.sum(places, axis=0).tolist() == [4] * 5

    def judge(request: harness.Choose) -> tuple[float, ...]:
        return tuple(0.1 * (text in silent) - 2.0 * place for place, text in enumerate(_numbered(request.user)))

    assert _rows("intruder", of, judge)["accuracy"].value == 1  # by the likeliest number alone: .2


def test_trials_without_an_answer_are_left_out_and_told() -> None:
    of, seen = planted(4), []

    def judge(request: Any) -> Any:
        seen.append(request)
        return harness.Failure("no") if len(seen) <= 5 else _by_word(request)

    whole, found = _rows("intruder", of, _by_word), _rows("intruder", of, judge)
    assert found["answered"].value == 0.75 and found["accuracy"].n == 15
    assert found["accuracy_failures_wrong"].value == pytest.approx(found["accuracy"].value * 0.75)
    assert whole["accuracy_failures_wrong"].value == whole["accuracy"].value
    found = _rows("intruder", of, lambda request: harness.Failure("no"))
    assert found["accuracy"].value is None and "answered 0 trials" in found["accuracy"].reason


def _asked_tokens(of: harness.Latent) -> list[tuple[str, str]]:
    requests = harness.create("scorer", "simulation").plan(of)
    texts = [_yes_or_no(request)[1] for request in requests]
    return [(text.replace("<<", "").replace(">>", ""), next(iter(_words(text)))) for text in texts]


def test_simulation_asks_about_the_strongest_token_and_others() -> None:
    of = dataclasses.replace(planted(5), other=None)
    asked = _asked_tokens(of)
    per_window = Counter(text for text, _ in asked)
    assert len(asked) == 80 and set(per_window.values()) == {8}
    for window in of.test:
        text = " ".join(window.text.split())
        if window.is_active and text in per_window:
            assert (text, "word8") in asked


def test_simulation_correlates_expected_digits() -> None:
    """Log-probabilities need not add up to 1, and what is asked first has no say."""
    of = dataclasses.replace(latent(at_random(0.3), 9), other=None)
    generator, simulated, true = np.random.default_rng(0), [], []
    by_text = {" ".join(window.text.split()): window for window in of.test}

    def judge(request: harness.Choose) -> tuple[float, ...]:
        text = _yes_or_no(request)[1]
        (place,) = (place for place, word in enumerate(text.split()) if "<<" in word)
        true.append(by_text[text.replace("<<", "").replace(">>", "")].activations[place])
        p = generator.random(10) * 0.01
        simulated.append(sum(int(k) * own for k, own in zip(request.choices, p, strict=True)) / sum(p))
        return tuple(np.log(p).tolist())

    found = _rows("simulation", of, judge)
    assert found["ev_correlation"].value == pytest.approx(pearsonr(simulated, true).statistic, abs=1e-12)
    assert found["ev_correlation_random_explanation"].value is None


def test_a_constant_simulation_has_no_correlation() -> None:
    found = _rows("simulation", planted(0), lambda request: (-1.0,) * 10)
    assert found["ev_correlation"].value is None and "same of every token" in found["ev_correlation"].reason
    assert found["answered"].value == 1
    found = _rows("simulation", planted(0), lambda request: harness.Failure("no"))
    assert found["ev_correlation"].value is None and "for 0 tokens" in found["ev_correlation"].reason


@pytest.mark.parametrize("name", LETS_NEGATIVES_BE_CHOSEN)
def test_silent_windows_are_those_that_were_asked_for(name: str) -> None:
    own = planted(6)
    near = tuple(
        dataclasses.replace(w, sample="near_text", tokens=(" nearby", *w.tokens[1:]))
        for w in own.test
        if not w.is_active
    )
    of = dataclasses.replace(own, near_explain=near, near_test=near, other=None)
    for negatives in ("random", "near_text"):
        asked = harness.create("scorer", name, negatives=negatives).plan(of)
        assert any("nearby" in str(request) for request in asked) == (negatives == "near_text")
    with pytest.raises(harness.Undefined, match="0 near_latent explain windows"):
        harness.create("scorer", name, negatives="near_latent").plan(of)


@pytest.mark.parametrize("name", ["surprisal", "simulation", *WRITTEN])
def test_without_another_latent_there_is_no_control(name: str) -> None:
    found = _rows(name, dataclasses.replace(latent(on_token(" word3"), 0), other=None), _by_word)
    metric = harness.create("scorer", name).metric
    control = found[f"{metric}_random_explanation"]
    assert control.value is None and "no other latent" in control.reason and found[metric].value > 0.7
