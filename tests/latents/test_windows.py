"""Windows: their texts, their halves, and where poles are active in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.latents.windows import MIN_TOKENS, WINDOW_TOKENS, count_windows, cut, explains, pole_windows
from tests.support.texts import read_dense, rows_of

WORDS = st.text(alphabet="ab é😀\n", min_size=0, max_size=400)


def _text(n_words: int, salt: str = "w") -> str:
    return " ".join(f"{salt}{i}" for i in range(n_words))


@settings(deadline=None)
@given(st.lists(WORDS, max_size=4, unique=True), st.integers(9, 70), st.data())
def test_the_tokens_of_a_window_are_its_text(texts: list[str], context: int, data: st.DataObject) -> None:
    documents = {f"d{i}": text for i, text in enumerate(texts)}
    rows = rows_of(documents, context)
    dropped = data.draw(st.sets(st.integers(0, max(len(rows) - 1, 0)), max_size=3))
    rows = rows.drop(index=[row for row in dropped if row < len(rows)]).reset_index(drop=True)
    windows = cut(rows, documents)
    seen = np.full(len(rows), -1)
    for number, (first, end) in enumerate(zip(windows.first_rows.tolist(), windows.ends.tolist(), strict=True)):
        own = rows.iloc[first:end]
        assert MIN_TOKENS <= end - first <= WINDOW_TOKENS
        assert len(set(zip(own["document"], own["window"], own["position"] // WINDOW_TOKENS, strict=True))) == 1
        text = documents[own["document"].iloc[0]]
        joined = "".join(windows.tokens[first:end])
        start = int(own["start"].iloc[0])
        assert joined in (text[start : own["end"].iloc[-1]], text[start - 1 : own["end"].iloc[-1]])
        assert joined.startswith(" ") == (text[start - 1 : start] == " ")
        seen[first:end] = number
    assert seen.tolist() == windows.window_of_row.tolist()
    short = rows[seen < 0].groupby(["document", "window", rows["position"] // WINDOW_TOKENS]).size()
    assert (short < MIN_TOKENS).all()


def test_what_lies_between_rows_belongs_to_the_next_token() -> None:
    text = "one two three  four five six seven eight nine ten"
    rows = rows_of({"a": text}).drop(index=[1]).reset_index(drop=True)  # `three` is no row, as a control token
    assert cut(rows, {"a": text}).tokens[:3] == [" two", " three  four", " five"]


def test_tokens_that_share_a_character_do_not_repeat_it() -> None:
    ends: Sequence[tuple[int, int]] = [(0, 1), (1, 2), (1, 2), (2, 4), *((i, i + 1) for i in range(4, 10))]
    columns = {"document": ["a"] * 10, "window": [0] * 10, "position": range(10)}
    rows = harness.make_rows(columns | {"start": [s for s, _ in ends], "end": [e for _, e in ends]})
    windows = cut(rows, {"a": "x😀, abcdef"})
    assert windows.tokens[:4] == ["x", "😀", "", ", "] and "".join(windows.tokens) == "x😀, abcdef"


def test_without_offsets_there_is_no_text() -> None:
    columns = {"document": ["a"] * 10, "window": [0] * 10, "position": range(10)}
    with pytest.raises(harness.Undefined, match="gives no character offsets"):
        cut(harness.make_rows(columns), {"a": "x"})


def test_no_rows() -> None:
    windows = cut(rows_of({}), {})
    assert len(windows) == 0
    counts = count_windows(windows, read_dense(torch.zeros(5, 0)), explain=True)
    assert counts.active.shape == (0, 2)


def test_halves_share_no_document() -> None:
    texts = {f"d{i}": _text(40) for i in range(200)}
    windows = cut(rows_of(texts), texts)
    names = [windows.document_of_row[first] for first in windows.first_rows]
    halves = {half: {n for n, e in zip(names, windows.is_explain, strict=True) if e == half} for half in (True, False)}
    assert not halves[True] & halves[False] and halves[True] | halves[False] == set(texts)
    assert 70 < len(halves[True]) < 130
    assert all(explains(name) for name in halves[True])


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_active_silent_and_neither(seed: int) -> None:
    generator = np.random.default_rng(seed)
    texts = {f"d{i}": _text(int(generator.integers(2, 150))) for i in range(8)}
    rows = rows_of(texts)
    windows = cut(rows, texts)
    kept = generator.random((len(rows), 3)) < [1, 0.3, 0.02]
    dense = torch.tensor(generator.normal(size=(len(rows), 3)) ** 3 * kept).float()
    activations = read_dense(dense)
    for explain in (True, False):
        counts = count_windows(windows, activations, explain)
        for index, sign in ((i, s) for i in range(3) for s in (1, -1)):
            pole = activations.pole(index, sign)
            codes = sign * dense[:, index]
            peaks = {}
            for number, (first, end) in enumerate(zip(windows.first_rows, windows.ends, strict=True)):
                if explains(rows["document"][first]) == explain:
                    peaks[number] = float(codes[first:end].max())
            active = {number for number, peak in peaks.items() if peak > pole.threshold}
            silent = {number for number, peak in peaks.items() if peak <= pole.ceiling}
            found = pole_windows(windows, pole, explain)
            assert set(found.active.tolist()) == active and set(found.silent.tolist()) == silent
            assert [peaks[n] for n in found.active.tolist()] == sorted((peaks[n] for n in active), reverse=True)
            column = (1, -1).index(sign)
            assert (counts.active[index, column], counts.silent[index, column]) == (len(active), len(silent))


def test_a_window_shows_the_pole_at_its_tokens() -> None:
    texts = {"a": _text(100)}
    rows = rows_of(texts)
    windows = cut(rows, texts)
    codes = torch.zeros(len(rows), 1)
    codes[32], codes[40], codes[41] = 3.0, -2.0, 1.0
    activations = read_dense(codes)
    plus = windows.show(1, activations.pole(0, 1), True, "top")
    assert plus.tokens[1] == " w33" and plus.activations[1] == 3 and plus.activations[10] == 1 and plus.document == "a"
    assert sum(plus.activations) == 4
    minus = windows.show(1, activations.pole(0, -1), True, "top")
    assert minus.tokens == plus.tokens and minus.activations[9] == 2 and sum(minus.activations) == 2
    assert len(plus.tokens) == 32 and plus.text == " " + texts["a"][texts["a"].index("w32") : texts["a"].index(" w64")]


def test_rows_are_cut_by_position_not_by_place() -> None:
    columns = {"document": ["a"] * 60, "window": [0] * 60, "position": range(10, 70)}
    offsets = {"start": range(60), "end": range(1, 61)}
    windows = cut(pd.DataFrame(harness.make_rows(columns | offsets)), {"a": "x" * 60})
    assert [(int(a), int(b)) for a, b in zip(windows.first_rows, windows.ends, strict=True)] == [(0, 22), (22, 54)]


def test_the_first_token_of_a_window_has_one_space_whether_or_not_offsets_count_it() -> None:
    text = "x  " + " ".join("abcdefghij")
    starts = [text.index(letter) for letter in "abcdefghij"]
    columns = {"document": ["a"] * 10, "window": [0] * 10, "position": range(1, 11), "end": [s + 1 for s in starts]}
    for own_space in (0, 1):
        rows = harness.make_rows(columns | {"start": [start - own_space for start in starts]})
        assert cut(rows, {"a": text}).tokens[:2] == [" a", " b"]


def test_an_end_that_falls_back_repeats_no_text() -> None:
    ends = [2, 1, 3, *range(4, 11)]
    columns = {"document": ["a"] * 10, "window": [0] * 10, "position": range(10)}
    rows = harness.make_rows(columns | {"start": [0, 0, 1, *range(3, 10)], "end": ends})
    assert cut(rows, {"a": "abcdefghij"}).tokens[:4] == ["ab", "", "c", "d"]
