"""Contrasts of files: each published format by its fields, and what is wrong with a file said by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import Contrast

OWN = {"clean": "The keys", "patch": "The key", "right": " are", "wrong": " is", "group": "key"}
FEATURE_CIRCUITS = {
    **{"clean_prefix": "The parents", "patch_prefix": "The parent", "clean_answer": " do", "patch_answer": " does"},
    "case": "plural_singular",
}
ABC, FLIP = "Then Cid and Dan went, and Eve gave it to", "Then Ann and Bob went, and Ann gave it to"
IOI = {
    "prompt": "Then Ann and Bob went, and Bob gave it to",
    "metadata": {"indirect_object": "Ann", "subject": "Bob"},
    "abc_counterfactual": {"prompt": ABC},
    "s2_io_flip_counterfactual": {"prompt": FLIP},
}
SUM = {
    "prompt": "The sum of 3 and 4 is",
    "label": 7,
    "random_counterfactual": {"prompt": "The sum of 1 and 4 is", "label": 5},
}
CHOICES = {
    **{"prompt": "Which is red? A. box B. ball", "choices": {"label": [" A", " B"]}, "answerKey": 1},
    "symbol_counterfactual": {
        **{"prompt": "Which is red? C. box D. ball", "choices": {"label": [" C", " D"]}, "answerKey": 1}
    },
}


def blimp(prefix: str, good: str, bad: str) -> dict[str, str]:
    return {"one_prefix_prefix": prefix, "one_prefix_word_good": good, "one_prefix_word_bad": bad, "pairID": "0"}


def contrasts(folder: Path, *lines: Mapping[str, Any] | str, **params: Any) -> list[Contrast]:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "pairs.jsonl").write_text("\n".join(texts))
    made = harness.create("behaviour", "contrast_file", path=str(folder / "pairs.jsonl"), **params)
    return list(made.contrasts())


@pytest.mark.parametrize(
    ("line", "params", "contrast"),
    [
        (OWN, {}, Contrast("The keys", "The key", " are", " is", "key")),
        (FEATURE_CIRCUITS, {}, Contrast("The parents", "The parent", " do", " does", "parent / parents")),
        (IOI, {}, Contrast(IOI["prompt"], ABC, " Ann", " Bob", "Ann / Cid, Bob / Dan, Bob / Eve")),
        (
            IOI,
            {"counterfactual": "s2_io_flip_counterfactual"},
            Contrast(IOI["prompt"], FLIP, " Ann", " Bob", "Ann / Bob"),
        ),
        (SUM, {}, Contrast(SUM["prompt"], "The sum of 1 and 4 is", "7", "5", "1 / 3")),
        (CHOICES, {}, Contrast(CHOICES["prompt"], "Which is red? C. box D. ball", " B", " D", "A. / C., B. / D.")),
    ],
)  # fmt: skip
def test_a_format_is_known_by_its_fields(line: Any, params: dict[str, Any], contrast: Contrast, tmp_path: Path) -> None:
    assert contrasts(tmp_path, line, line, **params) == [contrast]  # once


def test_lines_of_blimp_are_each_others_patches(tmp_path: Path) -> None:
    lines = [
        blimp("The sisters of Ann", "are", "is"),
        blimp("The sister", "is", "are"),  # of other length
        blimp("The boys of Ann", "are", "is"),
        blimp("The brother of Bob", "is", "are"),
    ]
    found = contrasts(tmp_path, *lines)
    assert found == [
        Contrast("The sisters of Ann", "The brother of Bob", " are", " is", found[0].group),
        Contrast("The brother of Bob", "The sisters of Ann", " is", " are", found[0].group),
    ]
    with pytest.raises(harness.ConfigError, match="no two lines that make a contrast"):
        contrasts(tmp_path, *lines[:3])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "The keys"}], "line 1: of no known format. Fields: text. Known: clean, patch, right, wrong"),
        ([OWN, {**OWN, "right": None}], "line 2: field 'right' holds None, not a text"),
        ([OWN, FEATURE_CIRCUITS], "line 2: no field 'clean', as others of its format have"),
        ([{**OWN, "wrong": " are"}], "line 1: .* right and wrong, must differ"),
        ([OWN, "", "{"], "line 3: not JSON"),
        ([OWN, "[1]"], "line 2: a JSON list"),
        ([{**CHOICES, "answerKey": 2}], "line 1: answerKey 2 is none of the choices"),
        (["", ""], "has no lines"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(lines: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        contrasts(tmp_path, *lines)


def test_a_missing_file_is_found_when_planning(tmp_path: Path) -> None:
    with pytest.raises(harness.ConfigError, match="there is no file"):
        harness.create("behaviour", "contrast_file", path=str(tmp_path / "none.jsonl"))


def test_the_control_exchanges_half_of_each_group() -> None:
    own, other = (
        list(harness.create("behaviour", "number_agreement", shuffled=shuffled).contrasts())
        for shuffled in (False, True)
    )
    changed = [a.group for a, b in zip(own, other, strict=True) if (a.right, a.wrong) == (b.wrong, b.right)]
    assert len(own) == 48 and sorted(changed) == sorted({contrast.group for contrast in own})
    assert all((a.clean, a.patch, a.group) == (b.clean, b.patch, b.group) for a, b in zip(own, other, strict=True))


def test_what_followed_a_word_follows_it_again() -> None:
    for contrast in harness.create("behaviour", "repeated_tokens", n_words=9).contrasts():
        for text, answer in ((contrast.clean, contrast.right), (contrast.patch, contrast.wrong)):
            words = text.split()
            assert words.index(words[-1]) < len(words) - 1 and words[words.index(words[-1]) + 1] == answer.strip()
        assert sorted(contrast.clean.split()) == sorted(contrast.patch.split())
