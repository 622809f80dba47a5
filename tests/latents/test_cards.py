"""Cards: each part against a reckoning by hand, and the latent that a scorer gets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import harness
from harness.latents.cards import CardMaker, histogram, latent_of, source
from harness.latents.lens import Lens
from harness.latents.neighbours import nearest
from harness.latents.sampling import stratify
from harness.latents.windows import cut
from tests.support.texts import Fixed, read_dense, rows_of

TEXTS = {f"d{i}": " ".join(["the bank of the river"] * 13) + f" end{i}" for i in range(30)}


class TinyModel:
    """Four tokens, whose logits are the coordinates twice over and a constant."""

    def unembed(self, x: Tensor) -> Tensor:
        return 2 * x + torch.tensor([7.0, 0.0, 0.0, -3.0])

    def unembedding(self, ids: Tensor) -> Tensor:
        return 2 * torch.eye(4)[ids]

    def token_texts(self, ids: list[int]) -> list[str]:
        return [f"t{i}" for i in ids]


def _maker(dictionary: Tensor | None = None, atoms: pd.DataFrame | None = None, **changes: Any) -> CardMaker:
    rows = rows_of(TEXTS)
    windows = cut(rows, TEXTS)
    codes = torch.zeros(len(rows), 3)
    is_bank = torch.tensor([token == " bank" for token in windows.tokens])
    codes[is_bank.nonzero().flatten()[::30], 0] = 2.0  # one in 150 rows
    codes[is_bank.nonzero().flatten()[3::60], 0] = 4.0
    codes[7::151, 1] = -1.0
    masked = torch.zeros(len(rows), dtype=torch.bool)
    masked[is_bank.nonzero().flatten()[0]] = True
    activations = read_dense(codes, masked)
    decomposition = Fixed(harness.Codes(codes), 3)
    decomposition.dictionary, decomposition.atoms = dictionary, atoms
    strata = stratify(activations, windows, signed=True)
    parts = {"lens": Lens(TinyModel, "resid_post.0"), "find_texts": lambda wanted: TEXTS, "seed": 0} | changes
    return CardMaker(decomposition, activations, windows, masked.numpy(), strata, **parts)


def test_a_card_by_hand() -> None:
    maker = _maker(torch.eye(3, 4))
    card, other = maker.make({(0, 1): 12.5, (1, -1): None})
    pole = maker.activations.pole(0, 1)
    n_banks = sum(token == " bank" for token in maker.windows.tokens) - 1
    n_rows = len(maker.windows.tokens) - 1
    assert (card["index"], card["sign"], card["weight"]) == (0, 1, 12.5) and other["weight"] is None
    assert card["threshold"] == 0 and card["max"] == 4 and card["n_active"] == len(pole.rows)
    assert card["density"] == card["active_share"] == pytest.approx(card["n_active"] / n_rows)
    assert card["n_documents"] == len({maker.windows.document_of_row[row] for row in pole.rows})
    mean = pytest.approx(float(pole.values.mean()))
    assert card["top_tokens"] == [{"token": " bank", "n_active": len(pole.rows), "n": n_banks, "mean": mean}]
    assert other["sign"] == -1 and other["max"] == 1 and len(other["top_tokens"]) > 1
    assert other["top_tokens"] == sorted(other["top_tokens"], key=lambda t: -t["n_active"])
    shown = {window["sample"] for window in card["explain"]}
    assert shown >= {"top", "silent"} and card["source"] is None
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_the_lens_is_the_difference_to_nothing() -> None:
    maker = _maker(torch.tensor([[0.1, 0.5, -1.0, 0.0], [0, 0, 0, 1.0], [1, 1, 1, 1.0]]))
    plus, minus = (card["lens"] for card in maker.make({(0, 1): 1.0, (0, -1): 1.0}))
    # The constant, which would put t0 first, is taken off; the zero row goes through float32 sums around 7.
    assert [item["token"] for item in plus["promoted"]] == ["t1", "t0", "t3", "t2"]
    norm = 1.26**0.5  # of the latent's row: it is read at norm 1
    assert [item["token"] for item in plus["suppressed"]] == ["t2", "t3", "t0", "t1"]
    assert [item["logit"] for item in plus["promoted"]] == pytest.approx([1 / norm, 0.2 / norm, 0, -2 / norm], abs=1e-5)
    assert [item["token"] for item in minus["promoted"]] == ["t2", "t3", "t0", "t1"]


class Headless(TinyModel):
    def unembed(self, x: Tensor) -> Tensor:
        raise harness.Undefined("no head here")


@pytest.mark.parametrize(("model", "reason"), [(Headless(), "no head here"), (object(), "its rows are stored")])
def test_where_there_is_no_lens_the_reason_is_given(model: Any, reason: str) -> None:
    cards = _maker(torch.eye(3, 4), lens=Lens(lambda: model, "resid_post.0")).make({(0, 1): 1.0, (1, -1): 1.0})
    assert [card["lens"]["reason"][: len(reason)] for card in cards] == [reason] * 2


def test_directions_within_a_sublayer_are_none_of_the_residual_stream() -> None:
    """A head's columns may be as many as the stream's, and a lens would look at them without a word."""
    (card,) = _maker(torch.eye(3, 4), lens=Lens(TinyModel, "attn_z.1")).make({(0, 1): 1.0})
    assert card["lens"] == {"reason": "a direction at attn_z.1 is none of the residual stream, which the lens looks at"}


def test_without_a_dictionary_no_model_is_loaded() -> None:
    def load_model() -> Any:
        raise AssertionError

    (card,) = _maker(lens=Lens(load_model, "resid_post.0")).make({(0, 1): 1.0})
    assert card["lens"] == {"reason": "the decomposition has no dictionary"} and card["nearest"] == []
    assert latent_of(card).direction is None


def test_a_pole_that_does_nothing_has_a_card_too() -> None:
    (card,) = _maker().make({(2, 1): None})
    assert card["stratum"] == "dead" and card["max"] == 0 and card["n_active"] == 0 and card["top_tokens"] == []
    assert card["histogram"] == {"edges": [], "counts": []}
    assert {window["sample"] for window in card["explain"]} == {"silent"}


def test_the_histogram_counts_what_is_above_the_ceiling() -> None:
    codes = torch.linspace(-1, 3, 1000)[:, None]
    pole = read_dense(codes).pole(0, 1)
    found = histogram(pole)
    assert len(found["edges"]) == 21 and sum(found["counts"]) == len(pole.values) == 100
    assert found["edges"][0] == pytest.approx(pole.ceiling) and found["edges"][-1] == 3.0
    assert max(found["counts"]) <= 6


class Named(Fixed):
    def __init__(self, dictionary: Tensor, signed: bool) -> None:
        super().__init__(harness.Codes(torch.zeros(1, len(dictionary))), len(dictionary), signed)
        self.dictionary = dictionary


def test_nearest_by_cosine() -> None:
    dictionary = torch.tensor([[2.0, 0], [1, 1], [-3, 0.3], [0, 0], [0, 1], [5, 0.5]])
    x = dictionary.numpy().astype(float)
    norms = np.linalg.norm(x, axis=1)
    cosine = {i: x[0] @ x[i] / norms[0] / norms[i] for i in (1, 2, 4, 5)}
    for signed, order in ((False, [5, 1, 4, 2]), (True, [2, 5, 1, 4])):
        found = nearest(Named(dictionary, signed), 0, 1)
        assert [item["index"] for item in found] == order
        assert [item["cosine"] for item in found] == pytest.approx([cosine[i] for i in order], abs=1e-6)
    assert nearest(Named(dictionary, True), 0, -1)[0]["cosine"] == pytest.approx(-cosine[2])
    assert nearest(Named(dictionary, True), 3, 1) == nearest(Named(dictionary[:1], True), 0, 1) == []
    assert len(nearest(Named(torch.ones(9, 2), False), 0, 1)) == 5


def test_the_source_of_an_atom() -> None:
    text = "alpha " * 30 + "the river bank was steep" + " omega" * 30
    start = text.index("bank")
    rows = harness.make_rows(
        {"document": ["x", "y", "y"], "window": [0] * 3, "position": [1, 2, 3]}
        | {"start": [0, start, 3], "end": [1, start + 4, 5]}
    )
    asked: list[set[str]] = []

    def find_texts(wanted: set[str]) -> dict[str, str]:
        asked.append(wanted)
        return {"y": text}

    maker = _maker(torch.eye(3, 4), rows[["document", "position", "start", "end"]], find_texts=find_texts)
    (card,) = maker.make({(1, -1): 1.0})
    found = card["source"]
    assert asked == [{"y"}] and found["document"] == "y" and found["token"] == "bank"
    assert found["before"].startswith("alpha ") and found["before"].endswith("the river ")
    assert found["after"].startswith(" was steep omega") and found["after"].endswith("omega")
    assert 90 < len(found["before"]) <= 101 and 90 < len(found["after"]) <= 101
    assert latent_of(card).source == found["before"] + "bank" + found["after"] in text
    bare = harness.make_rows({"document": [0] * 3, "window": [0] * 3, "position": range(3)})
    assert _maker(torch.eye(3, 4), bare).make({(0, 1): 1.0})[0]["source"] is None


@given(st.text(alphabet="ab \n", max_size=300), st.data())
def test_sources_are_stretches_of_whole_words(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    found = source("d", text, start, end)
    before, after = found["before"], found["after"]
    assert text[start - len(before) : end + len(after)] == before + found["token"] + after
    assert max(len(before), len(after)) <= 101
    cut_off = text[: start - len(before)]
    assert not cut_off or cut_off[-1].isspace() or len(before) == 101
    assert len(before) == len(text[:start]) or start > 100
    rest = text[end + len(after) :]
    assert not rest or rest[0].isspace() or len(after) == 101


def test_a_scorer_gets_what_the_card_says() -> None:
    dictionary = torch.eye(3, 4)
    maker = _maker(dictionary)
    card, other_card = json.loads(json.dumps(maker.make({(1, -1): 1.0, (0, 1): 1.0})))
    latent = latent_of(card, dictionary[1], other=latent_of(other_card))
    assert latent.direction is not None and latent.direction.tolist() == [0, -1, 0, 0]
    assert (latent.index, latent.sign, latent.threshold) == (1, -1, card["threshold"]) and latent.source is None
    assert latent.other is not None and latent.other.index == 0
    window = latent.explain[0]
    assert window.text == "".join(card["explain"][0]["tokens"]) and isinstance(window.activations, tuple)
    for half in ("explain", "test"):
        shown = [*getattr(latent, half), *getattr(latent, f"near_{half}")]
        assert len(shown) == len(card[half])
        assert {w.sample for w in getattr(latent, f"near_{half}")} == {"near_latent", "near_text"}
