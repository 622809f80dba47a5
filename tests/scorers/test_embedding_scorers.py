"""Scorers that ask a sentence encoder, on embeddings made by hand."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.plugins.scorers.trials import N_ACTIVE, trials
from tests.support.planted import explained

N = 10


def _window(name: str, *activations: float) -> harness.LatentWindow:
    tokens = (f"{name} ", "of", " text")
    is_active = any(activations)
    padded = activations or (0.0, 0.0, 0.0)
    return harness.LatentWindow(name, tokens, padded, is_active, "random" if is_active else "silent")


def _latent(index: int = 0, n_active: int = N, **changes: Any) -> harness.Latent:
    halves = {
        half: (
            *(_window(f"{half}-active-{i}", 0, 1 + i, 0) for i in range(n_active)),
            *(_window(f"{half}-silent-{i}") for i in range(N)),
        )
        for half in ("explain", "test")
    }
    latent = dataclasses.replace(harness.Latent(index, 1, 0.0, **halves), **changes)
    return dataclasses.replace(latent, explanation=explained(latent))


def _answers(requests: list[harness.Embed], embed: Any) -> list[Tensor]:
    return [torch.nn.functional.normalize(torch.stack([embed(text) for text in r.texts]), dim=1) for r in requests]


def _rows(name: str, latent: harness.Latent, embed: Any) -> dict[str, harness.TableRow]:
    scorer = harness.create("scorer", name)
    requests = scorer.plan(latent)
    return {row.metric: row for row in scorer.reduce(latent, requests, _answers(requests, embed))}


def _along(degrees: float) -> Tensor:
    return torch.tensor([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def _by_kind(text: str) -> Tensor:
    """Active windows and what quotes them point one way, silent ones another."""
    number = sum(map(ord, text)) % 7
    return _along(number if "active" in text else 60 + number)


def test_retrieval_compares_windows_with_the_explanation() -> None:
    other = _latent(1, explain=tuple(_window(f"elsewhere-silent-{i}", 1, 0, 0) for i in range(N)))
    rows = _rows("embedding_retrieval", _latent(other=other), _by_kind)
    assert rows["auroc"].value == rows["balanced_accuracy"].value == 1
    assert rows["auroc_random_explanation"].value == 0
    assert {row.n for row in rows.values()} == {2 * N}


def test_the_encoder_is_asked_for_explanations_from_explain_windows_and_for_all_windows() -> None:
    latent = _latent(other=_latent(1))
    (own, other), explain, test = (
        request.texts for request in harness.create("scorer", "embedding_retrieval").plan(latent)
    )
    assert own == other == latent.explanation
    assert "explain-active-0 " in own and "test-" not in own
    assert explain == tuple(window.text for window in latent.explain)
    assert test == tuple(window.text for window in latent.test)


def test_the_cut_is_found_on_explain_windows() -> None:
    """Test windows are farther from the explanation than all explain windows, so all are called silent."""
    latent = _latent()
    near = {window.text: _along(10 if window.is_active else 40) for window in latent.explain}
    near |= {window.text: _along(41 if window.is_active else 42) for window in latent.test}
    rows = _rows("embedding_retrieval", latent, lambda text: near.get(text, _along(0)))
    assert rows["auroc"].value == 1
    assert rows["balanced_accuracy"].value == 0.5


def test_without_an_explanation_there_is_no_score_and_without_the_others_no_control() -> None:
    with pytest.raises(harness.Undefined, match="no explanation"):
        harness.create("scorer", "embedding_retrieval").plan(dataclasses.replace(_latent(), explanation=None))
    other = dataclasses.replace(_latent(1), explanation=None)
    control = _rows("embedding_retrieval", _latent(other=other), _by_kind)["auroc_random_explanation"]
    assert (control.value, control.reason) == (None, "there is no other latent with an explanation")


def test_provenance_explains_the_positive_pole_by_the_source() -> None:
    rows = _rows("atom_provenance", _latent(source="seen active", other=_latent(1, sign=-1, source="silent")), _by_kind)
    assert rows["auroc"].value == rows["balanced_accuracy"].value == 1
    assert rows["auroc_random_explanation"].value == 0


def test_provenance_without_a_source_is_undefined() -> None:
    scorer = harness.create("scorer", "atom_provenance")
    with pytest.raises(harness.Undefined, match="negative pole"):
        scorer.plan(_latent(sign=-1, source="seen active"))
    with pytest.raises(harness.Undefined, match="no source text"):
        scorer.plan(_latent())
    for other in (None, _latent(1)):
        rows = _rows("atom_provenance", _latent(source="seen active", other=other), _by_kind)
        control = rows["auroc_random_explanation"]
        assert (control.value, control.reason) == (None, "there is no other latent with an explanation")


def test_the_intruder_is_the_window_least_like_the_others() -> None:
    rows = _rows("embedding_intruder", _latent(), _by_kind)
    assert rows["accuracy"].value == 1 and rows["accuracy"].n == N
    # Here the active windows are two and two, each pair at a right angle to the other: the silent one is between.
    blind = _rows("embedding_intruder", _latent(), lambda text: _along(45 if "silent" in text else 90 * _is_odd(text)))
    assert blind["accuracy"].value == 0


def _is_odd(text: str) -> int:
    return int(text.split()[0][-1]) % 2


def test_the_four_are_neighbours_by_strength() -> None:
    """Embedded by strength, all active windows together are as far apart as the intruder is from the strongest."""
    strengths = [1, 10, 2, 9, 3, 8, 4, 7, 5, 6]
    active = tuple(_window(f"strength {strength}", 0, strength, 0) for strength in strengths)
    latent = _latent(test=(*active, *(_window(f"silent {i}") for i in range(N))))
    rows = _rows("embedding_intruder", latent, lambda text: _along(10 * (_number(text) if "strength" in text else 13)))
    assert rows["accuracy"].value == 1


def _number(text: str) -> int:
    return int(text.split()[1])


def test_an_encoder_that_tells_nothing_guesses() -> None:
    """Windows that tie share the guess: were it the first one's, the intruder, shown last, would never be it."""
    rows = _rows("embedding_intruder", _latent(), lambda text: torch.ones(2))
    assert rows["accuracy"].value == rows["accuracy_random_windows"].value == pytest.approx(0.2)


@pytest.mark.parametrize("n_active", [5, 8, 11])
def test_the_four_are_of_one_band_and_every_silent_window_is_tried(n_active: int) -> None:
    active, silent = list(range(n_active)), list(range(n_active, n_active + N))
    found = trials(active, silent)
    assert sorted(trial[-1] for trial in found) == silent
    for trial in found:
        four = trial[:-1]
        assert len(set(four)) == N_ACTIVE and set(four) <= set(active)
        assert max(four) - min(four) <= -(-n_active // (n_active // N_ACTIVE)) - 1
    assert set(itertools.chain(*found)) == {*active, *silent}  # none is left out


@pytest.mark.parametrize("name", ["embedding_retrieval", "embedding_intruder", "atom_provenance"])
def test_few_windows_are_no_measurement(name: str) -> None:
    with pytest.raises(harness.Undefined, match="4 active explain windows, fewer than 5"):
        harness.create("scorer", name).plan(_latent(n_active=4, source="text"))
