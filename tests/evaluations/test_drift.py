"""`drift` on documents whose change is known: none, one that a decomposition sees, and planted latents."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.plugins.evaluations import DriftConfig, drift_identity
from harness.plugins.evaluations.drift import _auroc, _Scores, _surprise
from harness.plugins.evaluations.drift_sides import Documents
from harness.plugins.scorers.auroc import auroc

_N, _ROWS, _WIDTH, _LATENTS = 180, 40, 40, 36
_DIRECTIONS = torch.linalg.qr(torch.randn(_WIDTH, _WIDTH, generator=torch.Generator().manual_seed(1)))[0]


class _Directions(harness.Decomposition):
    """The first of orthogonal directions, of which rows are made, above a half."""

    signed, n_latents = False, _LATENTS

    def encode(self, x: torch.Tensor) -> harness.Codes:
        products = x @ _DIRECTIONS[:_LATENTS].T
        return harness.Codes(torch.where(products > 0.5, products, 0.0))

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        return codes.values @ _DIRECTIONS[:_LATENTS]


def _rows(n: int, shift: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Rows of a few directions each, with noise; and a shift along one that is no latent's."""
    active = torch.rand(n, _LATENTS, generator=draw) < 0.03
    noise = 0.1 * torch.randn(n, _WIDTH, generator=draw)
    return active.float() @ _DIRECTIONS[:_LATENTS] + noise + shift[:, None] * _DIRECTIONS[-1]


def _context(shift: float = 0.0, seed: int = 0) -> harness.EvaluationContext:
    """Documents of two topics, those on law shifted, and with words of their own."""
    draw = torch.Generator().manual_seed(seed)
    documents = np.repeat(np.arange(_N), _ROWS)
    is_law = np.random.default_rng(seed).random(_N) < 0.45
    x = _rows(len(documents), shift * torch.from_numpy(is_law[documents]).float(), draw)
    labels = [{"topic": "law" if law else "cookery"} for law in is_law]
    words = np.random.default_rng(seed).integers(0, 30, len(x)) + 1000 * (shift > 0) * is_law[documents]
    return dataclasses.replace(
        harness.context_of(x, documents=torch.from_numpy(documents), labels=labels),
        tokens=lambda: [f"w{word}" for word in words],
        elsewhere=lambda texts: harness.TextRows(
            _rows(len(texts) * 8, torch.ones(len(texts) * 8), draw),
            torch.arange(len(texts)).repeat_interleave(8),
            ["elsewhere"] * (8 * len(texts)),
        ),
    )


def _table(context: harness.EvaluationContext, **params: Any) -> dict[str, harness.TableRow]:
    evaluation = harness.create("evaluation", "drift", **params)
    return {row.metric: row for row in evaluation.evaluate(_Directions(), context)}


def test_a_change_is_seen_soon_and_by_the_control_too() -> None:
    found = _table(_context(shift=1.0), value="law")
    assert found["auroc"].value is not None and found["auroc"].value > 0.95
    assert found["auroc_low"].value is not None and found["auroc_low"].value <= found["auroc"].value
    assert found["delay_100"].value is not None and found["delay_100"].value <= 10
    assert found["auroc_unigram"].value == 1.0
    assert found["delay_10"].value is None and "streams raise the alarm" in str(found["delay_10"].reason)


def test_where_nothing_changes_nothing_is_seen() -> None:
    """Exchangeable halves: the same documents under two labels."""
    found = _table(_context(), n_streams=40)
    assert found["false_alarm_rate"].value == 0 and found["alarm_bound"].value == pytest.approx(33 / 2000, abs=6e-3)
    for metric in ("auroc", "auroc_unigram"):
        low, value, high = (found[f"{metric}{end}"].value for end in ("_low", "", "_high"))
        assert low is not None and value is not None and high is not None and low <= 0.5 <= high
    assert found["delay_100"].value is None
    assert found["named_wrongly"].value is not None and found["named_wrongly"].value <= 0.1


def test_planted_latents_are_named() -> None:
    found = _table(_context(), n_streams=8)
    assert found["named_recall"].value is not None and found["named_recall"].value >= 0.8
    assert found["named_precision"].value is not None and found["named_precision"].value >= 0.95


def test_another_corpus_is_the_change() -> None:
    found = _table(_context(), change={"corpus": "synthetic", "n_documents": 50}, n_documents=40)
    assert found["auroc"].value is not None and found["auroc"].value > 0.98 and found["auroc"].n == 60 + 40
    with pytest.raises(harness.Undefined, match="5 documents after the change"):
        _table(_context(), change={"corpus": "synthetic"}, n_documents=5)


def test_the_key_follows_the_texts_of_another_corpus(tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("one")
    change = {"corpus": "files", "paths": [str(tmp_path)]}
    first = drift_identity(DriftConfig(change=change))
    (tmp_path / "a.txt").write_text("two")
    assert drift_identity(DriftConfig(change=change)) != first
    with pytest.raises(harness.ConfigError, match="unknown corpus 'nowhere'"):
        drift_identity(DriftConfig(change={"corpus": "nowhere"}))
    with pytest.raises(harness.ConfigError, match="name a corpus"):
        harness.create("evaluation", "drift", change={"name": "bible"})


def test_documents_count_from_their_beginning_and_alike() -> None:
    rows = Documents(torch.arange(8.0)[:, None], np.array([0, 0, 0, 1, 1, 2, 2, 2]), list("abcdefgh"))
    found = rows.of(np.array([2, 0]), 2)
    assert found.x[:, 0].tolist() == [0, 1, 5, 6] and found.tokens == ["a", "b", "f", "g"]
    assert found.numbers.tolist() == [1, 1, 0, 0] and found.n == 2


def test_surprise_counts_documents_of_the_first_third_only() -> None:
    rows = Documents(torch.zeros(5, 1), np.array([0, 0, 0, 1, 1]), ["a", "a", "b", "a", "new"])
    surprise = _surprise(rows, np.array([0]))
    assert surprise(rows) == pytest.approx(
        [-(2 * np.log(3 / 6) + np.log(2 / 6)) / 3, -(np.log(3 / 6) + np.log(1 / 6)) / 2]
    )


def test_intervals_of_auroc_hold_the_truth() -> None:
    inside = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        scores = _Scores(np.zeros(1), draw.normal(size=40), draw.normal(1, 1, 40))
        _, low, high = _auroc(scores, draw)
        inside += low <= 0.760 <= high
    assert inside >= 52
    assert auroc([1.0], [0.0]) == 1.0
