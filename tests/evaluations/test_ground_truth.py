"""Known features: the rows are what the recipe says, the truth scores 1, and scores fall with what is missing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

import harness
from harness.plugins.models.superposition import ROWS_OF_DOCUMENT, SITE
from tests.support.declared import assert_declared

METRICS = ["best_cosine", "matched_cosine", "recovered_share", "f1"]
SMALL: dict[str, Any] = {"n_features": 60, "width": 24, "n_rows": 4000, "l0": 3.0}


def superposition(**params: Any) -> Any:
    return harness.create("model", "superposition", **(SMALL | params))


def context_of(model: Any) -> tuple[harness.EvaluationContext, harness.Truth]:
    captured = model.stored_capture([SITE])
    truth = model.truth(captured.rows)
    return harness.context_of(captured.x[SITE], truth=truth), truth


class Oracle(harness.Decomposition):
    """Knows the features, in an order, of lengths and with signs of its own, and looks up which are in a row."""

    def __init__(self, x: Tensor, truth: harness.Truth, features: Tensor, scale: Tensor, sparse: bool) -> None:
        self.dictionary = truth.dictionary[features] * scale[:, None]
        self.codes = truth.codes.to_dense()[:, features] / scale
        self.signed, self.sparse = True, sparse
        self.place = {row.numpy().tobytes(): i for i, row in enumerate(x)}

    def encode(self, x: Tensor) -> harness.Codes:
        codes = self.codes[[self.place[row.numpy().tobytes()] for row in x]]
        if not self.sparse:
            return harness.Codes(codes)
        indices = torch.arange(self.n_latents).expand(len(x), -1).flip(1)
        return harness.Codes(codes.flip(1), indices, self.n_latents)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.to_dense(self.n_latents) @ self.dictionary


def oracle(context: harness.EvaluationContext, truth: harness.Truth, n: int = 60, sparse: bool = False) -> Oracle:
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([rows for rows, _ in context.blocks()])
    scale = torch.where(torch.arange(n) % 2 == 0, 2.0, -0.5)
    return Oracle(x, truth, torch.randperm(60, generator=generator)[:n], scale, sparse)


def evaluate(decomposition: harness.Decomposition, context: harness.EvaluationContext) -> dict[str, harness.TableRow]:
    rows = harness.create("evaluation", "ground_truth").evaluate(decomposition, context)
    assert_declared("ground_truth", rows)
    assert [row.metric for row in rows] == METRICS
    return {row.metric: row for row in rows}


@pytest.mark.parametrize("sparse", [False, True])
def test_the_truth_scores_one_and_half_of_it_a_half(sparse: bool) -> None:
    context, truth = context_of(superposition())
    found = evaluate(oracle(context, truth, sparse=sparse), context)
    assert {name: row.value for name, row in found.items()} == pytest.approx(dict.fromkeys(METRICS, 1), abs=1e-6)
    assert (found["f1"].n, found["best_cosine"].n) == (4000, 60)
    half = evaluate(oracle(context, truth, 30, sparse), context)
    for metric in ("matched_cosine", "recovered_share", "f1"):
        assert half[metric].value == pytest.approx(0.5, abs=1e-6)
    assert 0.5 < half["best_cosine"].value < 1


def test_f1_counts_both_kinds_of_mistakes() -> None:
    """By hand: x is one of the features, or none; the codes are wrong in one place each."""
    truth = harness.Truth(torch.eye(2), harness.Codes(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 0]])))

    class Wrong(harness.Decomposition):
        dictionary = torch.tensor([[0.0, -1], [1, 0]])

        def encode(self, x: Tensor) -> harness.Codes:
            return harness.Codes(torch.tensor([[0.0, 2], [1, 0], [-1, 0], [-1, -3]])[: len(x)])

        def decode(self, codes: harness.Codes) -> Tensor:
            return codes.values

    found = evaluate(Wrong(), harness.context_of(truth.codes.values, truth=truth))
    # Feature 0: found once, missed once, and -3 is not its presence. Feature 1, upside down: found, and once invented.
    assert found["f1"].value == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_cosines_against_numpy() -> None:
    context, truth = context_of(superposition())
    x = torch.cat([rows for rows, _ in context.blocks()])
    drawn = harness.fit(harness.create("method", "random_dictionary", n_latents=80, k=3), x)
    found = evaluate(drawn, context)
    v, w = truth.dictionary.double().numpy(), drawn.dictionary.double().numpy()  # type: ignore[union-attr]
    cosines = abs(v @ w.T) / np.linalg.norm(v, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    matched = cosines[scipy.optimize.linear_sum_assignment(-cosines)]
    assert found["best_cosine"].value == pytest.approx(cosines.max(axis=1).mean())
    assert found["matched_cosine"].value == pytest.approx(matched.mean())
    assert found["recovered_share"].value == (matched > 0.9).mean()
    assert matched.mean() < cosines.max(axis=1).mean() < 1


def test_a_learner_finds_more_than_a_random_dictionary() -> None:
    context, _ = context_of(superposition())
    x = torch.cat([rows for rows, _ in context.blocks()])
    learnt = harness.fit(harness.create("method", "topk_sae", n_latents=60, k=3, passes=12), x)
    drawn = harness.fit(harness.create("method", "random_dictionary", n_latents=60, k=3, source="gaussian"), x)
    for metric, margin in (("matched_cosine", 0.2), ("f1", 0.1)):
        assert evaluate(learnt, context)[metric].value > evaluate(drawn, context)[metric].value + margin


def test_rows_are_what_the_recipe_says() -> None:
    model = superposition(n_rows=20_000, hierarchy=0.4, correlation=0.8, l0=8.0)
    captured = model.stored_capture([SITE])
    truth = model.truth(captured.rows)
    codes = truth.codes.to_dense().double()
    assert torch.allclose((codes @ truth.dictionary.double()).float(), captured.x[SITE], atol=1e-6)
    assert torch.allclose(truth.dictionary.norm(dim=1), torch.ones(60))
    active = codes > 0
    p = 1 / np.arange(1, 61) ** 0.5
    p *= 8 / p.sum()
    assert p.max() > 0.5  # so the first is cut, and the others make up for it
    p[0], p[1:] = 0.5, p[1:] * 7.5 / p[1:].sum()
    n = len(active)
    assert np.abs(active.double().mean(dim=0).numpy() - p).max() < 4.5 * (0.25 / n) ** 0.5
    assert active.sum(dim=1).double().mean() == pytest.approx(8, abs=0.1)
    assert codes[active].min() >= 0.5 and codes.max() <= 1.5 and codes[active].mean() == pytest.approx(1, abs=0.01)
    roots = 36
    assert not (active[:, roots:] & ~active[:, model.parents]).any()
    together = np.corrcoef(active[:, :roots].double().T.numpy())
    assert min(together[i, i + 1] for i in range(0, roots, 2)) > 0.3
    others = [together[i, j] for i in range(roots) for j in range(i) if (i // 2) != (j // 2)]
    assert max(map(abs, others)) < 0.05


def test_seeds_noise_and_what_the_truth_of_a_part_is() -> None:
    model = superposition()
    captured = model.stored_capture([SITE])
    again, other = superposition().stored_capture([SITE]), superposition(seed=1).stored_capture([SITE])
    assert torch.equal(captured.x[SITE], again.x[SITE]) and not torch.equal(captured.x[SITE], other.x[SITE])
    assert captured.rows["document"].nunique() == -(-4000 // ROWS_OF_DOCUMENT)
    part = captured.rows.iloc[[3999, 0, 130, 131]]
    whole = model.truth(captured.rows).codes.to_dense()
    assert torch.equal(model.truth(part).codes.to_dense(), whole[[3999, 0, 130, 131]])
    noise = superposition(noise=0.3).stored_capture([SITE]).x[SITE] - captured.x[SITE]
    assert noise.norm(dim=1).square().mean().sqrt().item() == pytest.approx(0.3, rel=0.02)
    longer = superposition(n_rows=4100).stored_capture([SITE])
    assert torch.equal(longer.x[SITE][:4000], captured.x[SITE])


def test_without_a_value() -> None:
    context, truth = context_of(superposition())
    evaluation = harness.create("evaluation", "ground_truth")
    with pytest.raises(harness.Undefined, match="the true features of these rows are not known"):
        evaluation.evaluate(oracle(context, truth), dataclasses.replace(context, truth=None))
    with pytest.raises(harness.PluginError, match="codes of 4000 rows, for 3 rows"):
        evaluation.evaluate(oracle(context, truth), harness.context_of(torch.ones(3, 24), truth=truth))
    mean = harness.fit(harness.create("method", "mean"), torch.ones(5, 24))
    with pytest.raises(harness.Undefined, match="no latents"):
        evaluation.evaluate(mean, context)
    masked = dataclasses.replace(
        context, blocks=lambda: ((x, torch.ones(len(x), dtype=torch.bool)) for x, _ in context.blocks())
    )
    assert evaluate(oracle(context, truth), masked)["f1"].reason == "no feature is active in an unmasked row"
    with pytest.raises(harness.ConfigError, match=r"its only site is resid_post\.0"):
        superposition().stored_capture(["resid_post.1"])
    for params in ({"l0": 31.0}, {"hierarchy": 0.6}, {"correlation": -0.1}, {"width": 0}):
        with pytest.raises(harness.ConfigError, match="superposition"):
            superposition(**params)
