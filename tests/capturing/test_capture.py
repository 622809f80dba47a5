from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.capturing.capture import CHUNK_WINDOWS, PlacedWindow, _make_rows, _padded, place, read
from harness.capturing.cutting import LONG_TEXT
from harness.contracts.corpus import Document
from harness.contracts.model import Window
from harness.contracts.rows import COLUMNS
from tests.support.tiny_models import TEXTS, save_tiny_model

SITES = ["resid_post.0", "mlp_out.1"]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return harness.create("model", "hf", path=str(save_tiny_model("gpt2", tmp_path_factory.mktemp("gpt2"))))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return harness.create("model", "hf", path=str(save_tiny_model("bert", tmp_path_factory.mktemp("bert"))))


def _documents(n: int) -> Iterator[Document]:
    return (Document(f"id{i}", TEXTS[i % 4][: 5 + i % 40]) for i in range(n))


def test_rows_made_at_once_are_those_made_one_by_one() -> None:
    """Tokens without a place in the text, special ones, windows that keep nothing, places beyond 32 bits."""
    windows = [
        Window([5, 6, 7], [True, False, False], [None, 0, 2**40], [None, 1, 2**40 + 1]),
        Window([5], [True], [None], [None]),
        Window([8, 9], [False, False], [7, None], [9, None]),
    ]
    keeps = [np.array([False, True, True]), np.array([False]), np.array([True, True])]
    placed = [PlacedWindow(f"d{i}", i, *pair) for i, pair in enumerate(zip(windows, keeps, strict=True))]
    names = ("document", "window", "position", "start", "end", "special")
    one_by_one = [
        (at.document, at.number, token, at.window.start[token], at.window.end[token], at.window.special[token])
        for at in placed
        for token in np.flatnonzero(at.keep).tolist()
    ]
    columns = zip(names, map(list, zip(*one_by_one, strict=True)), strict=True)
    wanted = harness.make_rows(dict(columns))
    pd.testing.assert_frame_equal(_make_rows(placed), wanted)
    ids, mask, keep = _padded(placed)
    assert ids.tolist() == [[5, 6, 7], [5, 0, 0], [8, 9, 0]] and mask.sum(dim=1).tolist() == [3, 1, 2]
    assert keep.tolist() == [[False, True, True], [False] * 3, [True, True, False]]


def test_a_window_that_is_not_aligned_is_refused(gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt2, "windows", lambda texts, context: [[Window([1, 2], [False] * 2, [0], [1, 2])]])
    with pytest.raises(harness.PluginError, match=r"unequal numbers of .*'start': 1"):
        harness.capture(gpt2, ["a b"], SITES)


def test_rows_of_another_shape_are_refused(gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row less in each window: those of its neighbours would be taken for its own."""
    monkeypatch.setattr(gpt2, "activations", lambda ids, mask, sites: {SITES[0]: torch.zeros(*ids.shape, 4)[:, 1:]})
    with pytest.raises(harness.PluginError, match=r"shapes \{'resid_post.0': \(.*for windows of shape"):
        harness.capture(gpt2, TEXTS, SITES[:1])


def test_rows_are_aligned_with_what_each_window_gives_alone(gpt2: Any) -> None:
    c = harness.capture(gpt2, TEXTS, SITES, context=16, special=True, first=True)
    place = 0
    for index, windows in enumerate(gpt2.windows(TEXTS, 16)):
        for number, window in enumerate(windows):
            ids = torch.tensor([window.ids])
            alone = gpt2.activations(ids, torch.ones_like(ids).bool(), SITES)
            rows = c.rows.iloc[place : place + len(window.ids)]
            assert (rows["document"] == index).all() and (rows["window"] == number).all()
            assert rows["position"].tolist() == list(range(len(window.ids)))
            assert rows["end"].tolist() == list(window.end)
            for site in SITES:
                torch.testing.assert_close(c.x[site][place : place + len(rows)], alone[site][0], rtol=1e-5, atol=1e-5)
            place += len(rows)
    assert place == len(c.rows)
    assert tuple(c.rows.columns) == COLUMNS and c.rows["document"].dtype == np.int64


@pytest.mark.parametrize(("special", "first"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_special_and_first_rows_are_dropped_unless_asked_for(
    name: str, special: bool, first: bool, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    texts = [TEXTS[0], "a</s>b and more"]
    everything = harness.capture(model, texts, SITES, context=16, special=True, first=True)
    c = harness.capture(model, texts, SITES, context=16, special=special, first=first)
    wanted = (special | ~everything.rows["special"]) & (first | (everything.rows["position"] > 0))
    pd.testing.assert_frame_equal(c.rows, everything.rows[wanted].reset_index(drop=True))
    assert torch.equal(c.x[SITES[0]], everything.x[SITES[0]][torch.from_numpy(wanted.to_numpy(copy=True))])
    assert everything.rows["special"].sum() == (
        1 if name == "gpt2" else 1 + 2 * (everything.rows["position"] == 0).sum()
    )


@pytest.mark.parametrize("texts", [[], [""], ["", "a"]])
def test_texts_without_rows_give_empty_tables_of_the_right_shape(gpt2: Any, texts: list[str]) -> None:
    c = harness.capture(gpt2, texts, SITES)
    assert {site: tuple(x.shape) for site, x in c.x.items()} == dict.fromkeys(SITES, (0, gpt2.width))
    assert len(c.rows) == 0 and tuple(c.rows.columns) == COLUMNS and c.rows["document"].dtype == np.int64


def test_texts_and_sites_may_be_given_once(gpt2: Any) -> None:
    """A generator was read to its end by the check, and gave no rows."""
    texts, sites = ["The quick brown fox", "jumps over"], ["resid_post.0", "resid_post.1"]
    given = harness.capture(gpt2, texts, sites)
    once = harness.capture(gpt2, (text for text in texts), (site for site in sites))  # type: ignore[arg-type]
    assert len(once.rows) > 0 and once.rows.equals(given.rows)
    assert all(torch.equal(once.x[site], given.x[site]) for site in sites)


def test_chunks_hold_a_fixed_number_of_windows_in_document_order(gpt2: Any) -> None:
    documents = list(_documents(200))
    chunks = list(read(gpt2, documents, SITES, context=8, first=True))
    n_windows = [len(chunk.rows.groupby(["document", "window"])) for chunk in chunks]
    assert len(chunks) > 2 and n_windows[:-1] == [CHUNK_WINDOWS] * (len(chunks) - 1)
    rows = pd.concat([chunk.rows for chunk in chunks])
    assert rows["document"].drop_duplicates().tolist() == [document.id for document in documents]
    assert not rows.duplicated(["document", "window", "position"]).any()


@pytest.mark.parametrize("skip_chunks", [1, 2, 99])
def test_a_resumed_capture_is_bit_equal_to_one_that_was_not_interrupted(gpt2: Any, skip_chunks: int) -> None:
    whole = list(read(gpt2, _documents(200), SITES, context=8))
    resumed = list(read(gpt2, list(_documents(200)), SITES, context=8, skip_chunks=skip_chunks))
    assert len(resumed) == max(len(whole) - skip_chunks, 0)
    for one, other in zip(whole[skip_chunks:], resumed, strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)
        assert all(torch.equal(one.x[site], other.x[site]) for site in SITES)


def test_documents_are_drawn_as_they_are_needed(gpt2: Any) -> None:
    drawn = itertools.count()
    endless = (Document(str(next(drawn)), TEXTS[0]) for _ in itertools.repeat(None))
    next(read(gpt2, endless, SITES, context=8))
    assert next(drawn) < 2 * CHUNK_WINDOWS


def test_activations_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("gpt2", tmp_path)))
    clean = harness.capture(model, TEXTS, ["resid_post.0"])
    model.module.wte.weight.data[model.windows(["😀"], 8)[0][0].ids[0]] = torch.nan  # in one text only
    broken = harness.capture(model, TEXTS, ["resid_post.0"])
    pd.testing.assert_frame_equal(broken.rows, clean.rows)
    assert 0 < broken.x["resid_post.0"].isnan().any(dim=1).sum() < len(clean.rows)


@pytest.mark.parametrize(
    ("texts", "sites", "context", "message"),
    [
        ("text", ["resid_post.0"], 8, r"write \[text\]"),
        ([1], ["resid_post.0"], 8, "list of strings"),
        (["text"], "resid_post.0", 8, "give a list"),
        (["text"], [], 8, "give a list"),
        (["text"], ["resid_past.0"], 8, "Did you mean 'resid_post'"),
        (["text"], ["resid_post.3"], 8, "layers 0 to 2"),
        (["text"], ["resid_post.0"], 0, "context is 0"),
        ([], ["resid_post.3"], 8, "layers 0 to 2"),
    ],
)
def test_what_can_not_be_captured_is_refused_with_what_can(
    gpt2: Any, texts: Any, sites: Any, context: int, message: str
) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        harness.capture(gpt2, texts, sites, context=context)


def test_context_counts_the_special_tokens(bert: Any) -> None:
    c = harness.capture(bert, TEXTS, SITES, context=8, special=True, first=True)
    assert c.rows.groupby(["document", "window"])["position"].max().max() == 7
    with pytest.raises(harness.ConfigError, match="2 special tokens"):
        harness.capture(bert, TEXTS, SITES, context=2)


def test_a_fit_of_captured_rows_knows_the_tokenizer(gpt2: Any) -> None:
    captured = harness.capture(gpt2, TEXTS, ["resid_post.0"])
    x = captured.x["resid_post.0"]
    assert harness.fit(harness.create("method", "mean"), x, captured.rows).tokenizer_hash == gpt2.tokenizer_hash
    assert harness.fit(harness.create("method", "mean"), x).tokenizer_hash is None


def test_lone_surrogates_are_read_as_unknown_characters(gpt2: Any) -> None:
    text = "a\ud800b and more of it"
    captured = harness.capture(gpt2, [text], ["resid_post.0"], first=True)
    assert captured.rows["end"].max() == len(text)


def test_a_capture_is_shown_in_one_line(gpt2: Any) -> None:
    c = harness.capture(gpt2, TEXTS, SITES)
    width = c.x[SITES[0]].shape[1]
    assert repr(c) == f"Capture({', '.join(SITES)}: {len(c.rows)} rows of width {width})"
    uneven = harness.Capture({"a.0": torch.ones(2, 3), "b.1": torch.ones(2, 5)}, c.rows.head(2))
    assert repr(uneven) == "Capture(a.0, b.1: 2 rows of width 3, 5)"


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_long_documents_are_cut_as_far_as_they_are_read(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(name)
    text = " ".join(TEXTS[i % 4] + f" {i * i}" for i in range(2_000))
    whole = model.windows([text], 32)[0]
    n_cut: list[int] = []

    def counted(texts: list[str], context: int) -> Any:
        n_cut.append(sum(map(len, texts)))
        return type(model).windows(model, texts, context)

    monkeypatch.setattr(model, "windows", counted)
    documents = [Document("short", TEXTS[0]), Document("long", text), Document("last", TEXTS[1])]
    placed = place(model, iter(documents), 32)
    n_short = len(model.tokens.windows([TEXTS[0]], 32)[0])
    first = list(itertools.islice(placed, n_short + 3))
    assert len(text) > 2 * LONG_TEXT and [n for n in n_cut if n >= LONG_TEXT] == [LONG_TEXT]
    everything = [*first, *placed]
    assert [own.window for own in everything if own.document == "long"] == whole
    assert [own.number for own in everything if own.document == "long"] == list(range(len(whole)))
    assert everything[-1].document == "last"


def test_a_tokenizer_that_minds_how_long_the_text_is_is_told(gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_length(texts: list[str], context: int) -> Any:
        return gpt2.tokens.windows([text[len(text) % 7 :] for text in texts], context)

    monkeypatch.setattr(gpt2, "windows", by_length)
    with pytest.raises(harness.ConfigError, match=r"document long: .* cuts the first [0-9]+ .*Split the document"):
        list(place(gpt2, [Document("long", TEXTS[1] * 2_000)], 32))
