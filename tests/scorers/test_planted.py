"""Latents of known meaning on real text: scorers find what they can find, and nothing where there is nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import pytest

import harness
from harness.asking.embedding import Embedder
from tests.support.planted import bigram, pieces, plant, random, signed, token, topic

N_WINDOWS = 12
N_RANDOM = 8
PLANTED = {
    "token": [token(" River"), token(" British")],
    "bigram": [bigram(" such", " as"), bigram(" known", " as"), bigram(" in", " a")],
    "topic": [topic("Mathematics"), topic("Biology and health sciences"), topic("Technology")],
    "random": [random()] * N_RANDOM,
}
OPPOSITES = signed(topic("Biology and health sciences"), topic("People"))
SCORERS = ("token_lookup", "embedding_retrieval", "embedding_intruder", "example_embedding", "atom_provenance")
Latents: TypeAlias = dict[str, list[harness.Latent]]
Rows: TypeAlias = dict[str, harness.TableRow]


@pytest.fixture(scope="module")
def latents() -> Latents:
    """Each with the next one as its `other`; windows of the explain half are the source of each."""
    kinds = [(kind, codes) for kind, of_kind in PLANTED.items() for codes in of_kind]
    planted = [(kind, plant(codes, i, n_windows=N_WINDOWS)) for i, (kind, codes) in enumerate(kinds)]
    planted += [("signed", plant(OPPOSITES, 99, sign, N_WINDOWS)) for sign in (1, -1)]
    sourced = [
        dataclasses.replace(latent, source=" ".join(window.text for window in latent.explain[:3]))
        for _, latent in planted
    ]
    found: Latents = {}
    for place, (kind, _) in enumerate(planted):
        other = sourced[(place + 1) % len(sourced)]
        found.setdefault(kind, []).append(dataclasses.replace(sourced[place], other=other))
    return found


def _judged(name: str, latents: list[harness.Latent], embedder: Embedder) -> list[Rows]:
    scorer = harness.create("scorer", name)
    plans = [scorer.plan(latent) for latent in latents]
    embedder.read(text for plan in plans for request in plan for text in request.texts)
    found = []
    for latent, plan in zip(latents, plans, strict=True):
        rows = scorer.reduce(latent, plan, [embedder.embed(request.texts) for request in plan])
        found.append({row.metric: row for row in rows})
    return found


@pytest.fixture(scope="module")
def rows(latents: Latents, embedder: Embedder) -> dict[str, dict[str, list[Rows]]]:
    """By scorer and kind; the source of an atom explains positive poles only."""
    every = [(kind, latent) for kind, own in latents.items() for latent in own]
    found: dict[str, dict[str, list[Rows]]] = {}
    for name in SCORERS:
        asked = [(kind, latent) for kind, latent in every if name != "atom_provenance" or latent.sign > 0]
        judged = _judged(name, [latent for _, latent in asked], embedder)
        found[name] = {kind: [] for kind in latents}
        for (kind, _), of_latent in zip(asked, judged, strict=True):
            found[name][kind].append(of_latent)
    return found


def _values(rows: dict[str, list[Rows]], metric: str) -> dict[str, list[float]]:
    found = {kind: [of_latent[metric].value for of_latent in own] for kind, own in rows.items()}
    assert None not in (value for own in found.values() for value in own)
    return found  # type: ignore[return-value]


def _is_within(values: list[float], chance: float) -> bool:
    """Whether chance lies within three standard errors of their mean."""
    return abs(np.mean(values) - chance) < 3 * np.std(values, ddof=1) / len(values) ** 0.5


def test_explain_and_test_windows_share_no_document(latents: Latents) -> None:
    for own in latents.values():
        for latent in own:
            explained, tested = ({window.document for window in half} for half in (latent.explain, latent.test))
            assert not explained & tested


def test_token_lookup_finds_tokens_and_bigrams(rows: Any, embedder: Embedder) -> None:
    scores = _values(rows["token_lookup"], "auroc")
    assert min(scores["token"] + scores["bigram"]) > 0.95
    assert np.mean(scores["topic"]) < 0.8  # a floor that found topics would be no floor
    many = _judged("token_lookup", [plant(random(), index) for index in range(20)], embedder)
    # A table that had seen the test windows: 1.
    assert _is_within(_values({"random": many}, "auroc")["random"], 0.5)


def test_embedding_retrieval_finds_what_a_text_can_say(rows: Any) -> None:
    scores = _values(rows["embedding_retrieval"], "auroc")
    assert min(scores["token"] + scores["topic"]) > max(scores["random"])
    assert np.mean(scores["signed"]) > 0.75
    assert np.mean(scores["bigram"]) > np.mean(scores["random"]) + 0.1
    assert _is_within(scores["random"], 0.5)  # were the explanation made from test windows: .9


def test_the_poles_of_a_signed_latent_are_told_apart(latents: Latents, embedder: Embedder) -> None:
    """The explanation of one pole is worse than none for the other, whose opposite it describes."""
    positive, negative = latents["signed"]
    (found,) = _judged("embedding_retrieval", [dataclasses.replace(positive, other=negative)], embedder)
    own, opposite = found["auroc"].value, found["auroc_random_explanation"].value
    assert own is not None and opposite is not None
    assert opposite < 0.4 and own > opposite + 0.3


def test_a_random_explanation_explains_nothing(rows: Any) -> None:
    for name in ("token_lookup", "embedding_retrieval", "example_embedding", "atom_provenance"):
        controls = _values(rows[name], "auroc_random_explanation")
        # That of a topic explains the next topic less than nothing.
        assert abs(np.mean([value for own in controls.values() for value in own]) - 0.5) < 0.1, name


def test_the_cut_is_good_for_other_windows(rows: Any) -> None:
    scores = _values(rows["embedding_retrieval"], "balanced_accuracy")
    assert np.mean(scores["token"] + scores["topic"]) > 0.7
    assert _is_within(scores["random"], 0.5)


def test_an_intruder_stands_out_among_windows_with_a_meaning(rows: Any) -> None:
    scores = _values(rows["embedding_intruder"], "accuracy")
    assert min(np.mean(scores["token"]), np.mean(scores["topic"])) > 0.5
    assert _is_within(scores["random"], 0.2)
    controls = _values(rows["embedding_intruder"], "accuracy_random_windows")
    assert _is_within([value for own in controls.values() for value in own], 0.2)


def test_example_embedding_finds_windows_like_others(rows: Any) -> None:
    scores = _values(rows["example_embedding"], "auroc")
    assert min(np.mean(scores["token"]), np.mean(scores["topic"])) > 0.75
    assert np.mean(scores["signed"]) > 0.75
    assert _is_within(scores["random"], 0.5)  # were the queries among their references: above .9


def test_atom_provenance_finds_topics_by_a_source(rows: Any) -> None:
    scores = _values(rows["atom_provenance"], "auroc")
    assert np.mean(scores["topic"]) > 0.7
    assert _is_within(scores["random"], 0.5)


def test_the_windows_are_text_of_the_corpus() -> None:
    document = next(iter(harness.create("corpus", "packaged").documents()))
    own = [piece for piece in pieces() if piece.document == document.id]
    assert document.text.startswith("".join(token for piece in own for token in piece.tokens))
