"""The table `hierarchy`, on rows made of features of which it is known which are children of which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.plugins.models.superposition import SITE
from tests.support.declared import assert_declared

SMALL: dict[str, Any] = {"n_features": 96, "width": 32, "n_rows": 6000, "l0": 5.0, "correlation": 0.0, "noise": 0.01}
METRICS = [
    *("live_poles", "clusters", "share_in_clusters", "null_clusters", "split_half_ari", "modularity_over_rewired"),
    *("parents_found", "truth_precision", "truth_recall"),
]


class Oracle(harness.Decomposition):
    """Looks up the true codes of each row."""

    signed = False

    def __init__(self, x: torch.Tensor, codes: torch.Tensor, dictionary: torch.Tensor | None) -> None:
        self.dictionary, self.codes, self.n_latents = dictionary, codes, codes.shape[1]  # type: ignore[assignment]
        self.place = {row.numpy().tobytes(): i for i, row in enumerate(x)}

    def encode(self, x: torch.Tensor) -> harness.Codes:
        return harness.Codes(self.codes[[self.place[row.numpy().tobytes()] for row in x]])

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        raise NotImplementedError


def evaluate(decomposition: harness.Decomposition, context: harness.EvaluationContext) -> dict[str, harness.TableRow]:
    rows = harness.create("evaluation", "hierarchy").evaluate(decomposition, context)
    assert [row.metric for row in rows] == METRICS
    assert_declared("hierarchy", rows)
    return {row.metric: row for row in rows}


def on_true_codes(shuffled: bool = False, **params: Any) -> dict[str, harness.TableRow]:
    """The table of the true features and their codes."""
    model = harness.create("model", "superposition", **(SMALL | params))
    captured = model.stored_capture([SITE])
    truth, x = model.truth(captured.rows), captured.x[SITE]
    codes = truth.codes.to_dense()
    if shuffled:
        generator = torch.Generator().manual_seed(0)
        codes = torch.stack([column[torch.randperm(len(x), generator=generator)] for column in codes.T], dim=1)
    documents = torch.tensor(captured.rows["document"].astype(int).tolist())
    return evaluate(Oracle(x, codes, truth.dictionary), harness.context_of(x, documents=documents, truth=truth))


def test_children_are_found_by_the_true_codes() -> None:
    found = on_true_codes(hierarchy=0.5)
    recall, precision = found["truth_recall"], found["truth_precision"]
    assert recall.value is not None and precision.value is not None and found["parents_found"].value is not None
    assert recall.n >= 40 and recall.value >= 0.95
    assert precision.value >= 0.9 and found["parents_found"].value <= 48 / 0.9
    assert found["live_poles"].value == pytest.approx(96, abs=2)
    assert found["clusters"].value and found["modularity_over_rewired"].value


def test_where_there_is_no_hierarchy_none_is_found() -> None:
    for seed in range(2):
        found = on_true_codes(hierarchy=0.0, seed=seed, n_features=64)
        assert found["parents_found"].value == 0 and found["clusters"].value == 0
        assert "neither half of the documents has a cluster" in str(found["split_half_ari"].reason)
        assert found["truth_recall"].value is None and "both have a live latent" in str(found["truth_recall"].reason)
        assert abs(found["modularity_over_rewired"].value or 0) < 0.05


def test_shuffled_codes_have_neither_clusters_nor_parents() -> None:
    found = on_true_codes(shuffled=True, hierarchy=0.5)
    assert found["share_in_clusters"].value is not None and found["share_in_clusters"].value <= 0.01
    assert found["parents_found"].value == 0
    assert found["split_half_ari"].value is None or abs(found["split_half_ari"].value) < 0.05


def topics(n: int = 8000) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of twelve topics of five latents, in documents of ten rows."""
    generator = np.random.default_rng(0)
    is_about = np.repeat(np.repeat(generator.random((n // 10, 12)) < 0.15, 10, axis=0), 5, axis=1)
    fires = is_about & (generator.random(is_about.shape) < 0.3)
    codes = torch.from_numpy(fires * generator.uniform(0.5, 1.5, fires.shape)).float()
    return codes, torch.arange(n) // 10


def test_topics_are_the_same_in_both_halves_of_the_documents() -> None:
    codes, documents = topics()
    x = torch.randn(len(codes), 4, generator=torch.Generator().manual_seed(0))
    found = evaluate(Oracle(x, codes, None), harness.context_of(x, documents=documents))
    assert found["clusters"].value == 12 and found["share_in_clusters"].value == 1
    assert found["null_clusters"].value is not None and found["null_clusters"].value <= 1
    assert found["split_half_ari"].value is not None and found["split_half_ari"].value > 0.95
    assert "not known" in str(found["truth_recall"].reason)
    one = evaluate(Oracle(x, codes, None), harness.context_of(x, documents=torch.zeros(len(x), dtype=torch.long)))
    assert one["split_half_ari"].value is None and "one document" in str(one["split_half_ari"].reason)


def test_latents_that_hardly_fire_say_nothing() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    found = evaluate(Oracle(x, torch.zeros(200, 6), None), harness.context_of(x))
    assert found["live_poles"].value == 0
    assert all(row.value is None and "0 poles fire" in str(row.reason) for row in list(found.values())[1:])


@pytest.mark.slow
def test_an_sae_has_the_parents_of_the_children_that_it_has() -> None:
    model = harness.create("model", "superposition", n_features=256, width=64, n_rows=40_000, hierarchy=0.5)
    captured = model.stored_capture([SITE])
    x = captured.x[SITE]
    sae = harness.fit(harness.create("method", "topk_sae", n_latents=256, k=8), x[:30_000])
    rows = captured.rows.iloc[30_000:].reset_index(drop=True)
    context = harness.context_of(x[30_000:], truth=model.truth(rows))
    found = evaluate(sae, context)
    assert found["truth_recall"].value is not None and found["truth_recall"].n >= 5
    assert found["truth_recall"].value >= 0.9
