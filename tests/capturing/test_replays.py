"""Replays: why there are none, told of the model that the rows are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import harness
from harness.capturing import replays
from harness.latents.lens import Lens
from tests.support.tiny_models import TEXTS, OnlyRuns, save_tiny_language_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = save_tiny_language_model("gpt2", tmp_path_factory.mktemp("gpt2"))
    return harness.create("model", "hf", path=str(folder))


def test_a_text_model_without_replay_is_named_and_not_taken_for_stored_rows(model: Any) -> None:
    context = harness.evaluation_context(OnlyRuns(model), TEXTS, "resid_post.1", context=16)
    assert context.replays is not None
    with pytest.raises(harness.Undefined) as told:
        next(iter(context.replays()))
    assert told.value.reason == "its model, OnlyRuns, has no replay(): see harness.HasHead"
    able = harness.evaluation_context(model, TEXTS, "resid_post.1", context=16)
    assert able.replays is not None and len(next(iter(able.replays())).rows)


def test_neither_is_one_without_unembedding_by_the_logit_lens(model: Any) -> None:
    with pytest.raises(harness.Undefined) as told:
        _ = Lens(lambda: OnlyRuns(model), "resid_post.0").model
    assert told.value.reason == "its model, OnlyRuns, has no unembed() and token_texts(): see harness.HasUnembedding"


def test_windows_of_one_length_share_a_batch_and_no_others(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    replay = model.replay
    monkeypatch.setattr(model, "replay", lambda ids, site: shapes.append(tuple(ids.shape)) or replay(ids, site))
    texts: Any = iter(TEXTS)  # which gives each once, and replays read them again
    context = harness.evaluation_context(model, texts, "resid_post.1", context=16)
    assert context.replays is not None
    n_rows = sum(len(batch.rows) for batch in context.replays())
    lengths = [len(window.ids) for windows in model.windows(TEXTS, 16) for window in windows]
    assert sum(n * n_tokens for n, n_tokens in shapes) == sum(lengths)
    assert sorted(n_tokens for _, n_tokens in shapes) == sorted(set(lengths)) and n_rows == context.n_rows


def test_batches_are_larger_on_a_card(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def n_windows() -> list[int]:
        context = harness.evaluation_context(model, TEXTS * 6, "resid_post.1", context=16)
        assert context.replays is not None
        return [len(batch) for batch in context.replays._batches]

    on_cpu = n_windows()
    monkeypatch.setattr(replays, "BATCH_TOKENS", {})
    on_card = n_windows()
    assert max(on_cpu) * 16 <= 512 < max(on_card) * 16 and sum(on_cpu) == sum(on_card)
