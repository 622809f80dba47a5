"""The effective number of senses: of narrow topics mixed in known numbers, of random text, and of known embeddings."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.asking.embedding import Embedder
from tests.support.planted import Piece, pieces

N_WINDOWS = 36
TOPICS = ("species", "war", "river")
"""Words that are said three times and more in a document of the topic."""


def _latent(active: list[tuple[str, ...]], silent: list[tuple[str, ...]], peaks: list[int] | None = None) -> Any:
    """All are explain windows; the scorer puts the halves together."""
    peaks = peaks or [0] * len(active)
    shown = [
        harness.LatentWindow("d", tokens, tuple(float(place == peak) for place in range(len(tokens))), True, "random")
        for tokens, peak in zip(active, peaks, strict=True)
    ]
    shown += [harness.LatentWindow("d", tokens, (0.0,) * len(tokens), False, "silent") for tokens in silent]
    return harness.Latent(0, 1, 0.0, tuple(shown), ())


def _rows(latent: harness.Latent, embed: Any) -> dict[str, harness.TableRow]:
    scorer = harness.create("scorer", "senses")
    plan = scorer.plan(latent)
    return {row.metric: row for row in scorer.reduce(latent, plan, [embed(request.texts) for request in plan])}


@pytest.fixture(scope="module")
def texts() -> dict[str, list[Piece]]:
    """Windows of each topic, and random ones under `random`."""
    generator = np.random.default_rng(0)
    words: dict[str, Counter[str]] = {}
    for piece in pieces():
        words.setdefault(piece.document, Counter()).update(token.strip().lower() for token in piece.tokens)
    found = {
        topic: [piece for piece in pieces() if words[piece.document][topic] >= 3 and len(piece.tokens) >= 20]
        for topic in TOPICS
    }
    found["random"] = [pieces()[place] for place in generator.permutation(len(pieces()))[: 4 * N_WINDOWS]]
    return {name: [own[place] for place in generator.permutation(len(own))] for name, own in found.items()}


def _mixed(texts: dict[str, list[Piece]], topics: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [piece.tokens for topic in topics for piece in texts[topic][: N_WINDOWS // len(topics)]]


@pytest.fixture(scope="module")
def found(texts: dict[str, list[Piece]], embedder: Embedder) -> dict[int, list[dict[str, harness.TableRow]]]:
    """By the number of topics that are mixed; 0 has random windows for active ones."""
    silent, *random = (
        [piece.tokens for piece in texts["random"][first : first + N_WINDOWS]]
        for first in range(0, 4 * N_WINDOWS, N_WINDOWS)
    )
    mixed = {n: [_mixed(texts, topics) for topics in itertools.combinations(TOPICS, n)] for n in (1, 2, 3)}
    return {
        n: [_rows(_latent(active, silent), embedder.embed) for active in latents]
        for n, latents in {0: random, **mixed}.items()
    }


def _values(found: list[dict[str, harness.TableRow]], metric: str) -> list[float]:
    values = [rows[metric].value for rows in found]
    assert None not in values
    return values  # type: ignore[return-value]


@pytest.mark.parametrize(("n_topics", "tolerance"), [(1, 0.3), (2, 0.5), (3, 0.7)])
def test_topics_are_senses(found: Any, n_topics: int, tolerance: float) -> None:
    """Ward's clusters by the best silhouette, without a null: 7.0, 4.3 and 4.1."""
    senses = _values(found[n_topics], "effective_senses")
    assert np.mean(senses) == pytest.approx(n_topics, abs=tolerance)
    assert min(_values(found[n_topics], "monosemanticity")) > 0.2


def test_random_windows_have_as_many_senses_as_other_random_windows(found: Any) -> None:
    (silent,) = set(_values(found[0], "effective_senses_silent"))
    assert silent > 4.5
    assert np.mean(_values(found[0], "effective_senses")) == pytest.approx(silent, rel=0.25)
    assert abs(np.mean(_values(found[0], "monosemanticity"))) < 0.15


def _directions(*of: int) -> torch.Tensor:
    """Unit vectors in 64 dimensions: those of one number point the same way but for a little noise."""
    noise = 0.01 * torch.randn(len(of), 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.normalize(torch.eye(64, dtype=torch.float64)[list(of)] + noise, dim=1)


def _embedded(active: list[int], peaks: list[str] | None = None) -> dict[str, harness.TableRow]:
    """Silent windows have nothing in common."""
    peaks = peaks or [f"peak{i}" for i in range(len(active))]
    silent = list(range(30, 30 + 20))
    latent = _latent([("x", peak) for peak in peaks], [("y",)] * 20, [1] * len(active))
    answers = iter((_directions(*active), _directions(*silent)))
    return _rows(latent, lambda texts: next(answers))


def test_unequal_shares_count_for_less() -> None:
    rows = _embedded([0] * 15 + [1] * 5)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert rows["effective_senses"].value == pytest.approx(np.exp(entropy))
    at_random = rows["effective_senses_silent"].value
    assert at_random is not None and at_random > 5
    assert rows["monosemanticity"].value == pytest.approx(1 - entropy / np.log(at_random))


def test_windows_of_one_token_are_judged_apart() -> None:
    """Two senses of one token, and windows of other tokens that are of one sense each."""
    active, tokens = [0] * 6 + [1] * 6 + list(range(2, 10)), [" Bank", "bank"] * 6 + [f"t{i}" for i in range(8)]
    rows = _embedded(active, tokens)
    assert rows["effective_senses_token_matched"].value == pytest.approx(2)
    assert rows["effective_senses_token_matched"].n == 12
    assert (rows["effective_senses"].value or 0) > 2.5
    few = _embedded(active)["monosemanticity_token_matched"]
    assert few.value is None and few.reason == "1 windows have the same strongest token, fewer than 10"


def test_few_windows_have_no_value() -> None:
    scorer = harness.create("scorer", "senses")
    for n_active, n_silent, kind in ((15, 40, "active"), (40, 15, "silent")):
        with pytest.raises(harness.Undefined, match=f"15 {kind} windows, fewer than 16"):
            scorer.plan(_latent([("x",)] * n_active, [("y",)] * n_silent))
    alike = _rows(_latent([("x",)] * 20, [("y",)] * 20), lambda texts: _directions(*[0] * len(texts)) * 0 + 0.125)
    assert alike["monosemanticity"].value is None and alike["monosemanticity"].reason
