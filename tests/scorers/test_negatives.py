"""Scorers against the silent windows that they were asked to tell active ones from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import harness

SCORERS = ("token_lookup", "embedding_retrieval", "embedding_intruder", "atom_provenance")
N = 8


def _window(name: str, sample: str) -> harness.LatentWindow:
    is_active = sample == "random"
    values = (0.0, 2.0) if is_active else (0.0, 0.0)
    return harness.LatentWindow(name, (f"{name}", " end" if is_active else f" {sample}"), values, is_active, sample)


def _half(half: str) -> dict[str, tuple[harness.LatentWindow, ...]]:
    def windows(sample: str, n: int = N) -> tuple[harness.LatentWindow, ...]:
        return tuple(_window(f"{half}-{sample}-{i}", sample) for i in range(n))

    return {
        half: windows("random") + windows("silent"),
        f"near_{half}": windows("near_latent", 4) + windows("near_text"),
    }


def _latent(index: int = 0, **changes: Any) -> harness.Latent:
    latent = harness.Latent(
        index, 1, 0.0, **_half("explain"), **_half("test"), source="random end", explanation="random end"
    )
    return dataclasses.replace(latent, **changes)


def _answers(requests: list[harness.Embed]) -> list[torch.Tensor]:
    """Windows near in text are embedded as active ones are, others elsewhere."""
    near, far = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    return [torch.stack([far if " silent" in text else near for text in request.texts]) for request in requests]


@pytest.mark.parametrize("name", SCORERS)
def test_the_windows_are_those_that_were_asked_for(name: str) -> None:
    latent = _latent(other=_latent(1))
    values = {}
    for negatives in ("random", "near_text"):
        scorer = harness.create("scorer", name, negatives=negatives)
        plan = scorer.plan(latent)
        asked = {text for request in plan for text in request.texts}
        kinds = {kind for kind in ("silent", "near_text", "near_latent") if any(f" {kind}" in text for text in asked)}
        assert kinds == ({"silent" if negatives == "random" else negatives} if plan else set())
        rows = {row.metric: row for row in scorer.reduce(latent, plan, _answers(plan))}
        assert rows[scorer.metric].n == (N if name == "embedding_intruder" else 2 * N)
        values[negatives] = rows[scorer.metric].value
    assert values["random"] == 1
    expected = {
        "token_lookup": 1.0,
        "embedding_intruder": 0.2,
    }  # the table still knows " end"; all ties for the encoder
    assert values["near_text"] == pytest.approx(expected.get(name, 0.5))


@pytest.mark.parametrize("name", SCORERS)
def test_too_few_of_them_are_undefined(name: str) -> None:
    scorer = harness.create("scorer", name, negatives="near_latent")
    with pytest.raises(harness.Undefined, match="4 near_latent explain windows, fewer than 5"):
        scorer.reduce(_latent(), scorer.plan(_latent()), [])


def test_random_ones_are_the_default_and_unknown_ones_are_refused() -> None:
    (spec,) = (spec for spec in harness.catalog("scorer") if spec.name == "token_lookup")
    assert spec.config().negatives == "random"
    with pytest.raises(harness.ConfigError, match="nearest"):
        harness.create("scorer", "token_lookup", negatives="nearest")


def test_the_other_latent_is_given_the_same_kind() -> None:
    """Its explanation is to be made as the latent's own is."""
    latent = _latent(other=_latent(1)).against("near_text")
    for own in (latent, latent.other):
        assert own is not None
        for half in (own.explain, own.test):
            assert [window.sample for window in half] == ["random"] * N + ["near_text"] * N
    assert _latent().against("random") == _latent()
