"""Two decompositions of one function, the codes of one in other units: every evaluation says the same of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.capturing.activations import TensorActivations
from harness.latents.activations import read_activations
from harness.latents.lens import Lens
from harness.latents.neighbours import nearest
from harness.latents.sampling import stratify
from harness.latents.windows import cut
from tests.support.texts import CPU, rows_of

D, M, N_DOCUMENTS, ROWS = 12, 30, 100, 20


class Scaled(harness.Decomposition):
    """Codes of each latent are `scale` times those of the dictionary's unit rows, and its row 1/`scale` times as long.

    With `is_sparse` the same codes come as indices, each latent in two halves.
    """

    signed = False

    def __init__(self, scale: Tensor, is_sparse: bool = False) -> None:
        generator = torch.Generator().manual_seed(4)
        self.directions = torch.nn.functional.normalize(torch.randn(M, D, generator=generator))
        self.scale, self.is_sparse = scale, is_sparse
        self.dictionary = self.directions / scale[:, None]

    def encode(self, x: Tensor) -> harness.Codes:
        codes = (x @ self.directions.T - 0.5).relu() * self.scale
        if not self.is_sparse:
            return harness.Codes(codes)
        indices = torch.arange(M).expand(len(x), M)
        return harness.Codes(torch.cat([codes, codes], dim=1) / 2, torch.cat([indices, indices], dim=1), M)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.to_dense(M) @ self.dictionary


UNITS = torch.from_numpy(np.random.default_rng(0).permutation(np.geomspace(1e-3, 1e3, M))).float()
one, other, sparse = Scaled(torch.ones(M)), Scaled(UNITS), Scaled(UNITS, is_sparse=True)


@pytest.fixture(scope="module")
def context() -> harness.EvaluationContext:
    documents = torch.arange(N_DOCUMENTS).repeat_interleave(ROWS)
    codes = harness.Codes((torch.rand(len(documents), M, generator=torch.Generator().manual_seed(0)) - 0.5).relu())
    x = codes.values @ one.dictionary + 0.5 * (documents % 2)[:, None] * one.dictionary[3]
    labels = [{"half": "ab"[i % 2], "third": "abc"[i % 3]} for i in range(N_DOCUMENTS)]
    context = harness.context_of(x, None, documents, labels)
    return harness.EvaluationContext(**{**vars(context), "truth": lambda: harness.Truth(one.dictionary, codes)})


@pytest.mark.parametrize("again", [other, sparse], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", ["reconstruction", "dictionary_health", "sparse_probing", "ground_truth"])
def test_no_metric_depends_on_the_units_of_codes(
    name: str, again: harness.Decomposition, context: harness.EvaluationContext
) -> None:
    params: dict[str, Any] = {"ks": [1, 5]} if name == "sparse_probing" else {}
    found = [harness.create("evaluation", name, **params).evaluate(each, context) for each in (one, again)]
    values = [{row.metric: row.value for row in rows} for rows in found]
    assert sum(value is not None for value in values[0].values()) > 3
    for metric, value in values[0].items():
        assert values[1][metric] == (value if value is None else pytest.approx(value, rel=1e-5, abs=1e-6)), metric


@pytest.mark.parametrize("by", ["cosine", "activation"])
def test_no_matching_does(by: str, context: harness.EvaluationContext) -> None:
    x = torch.cat([x for x, _ in context.blocks()])
    third = harness.fit(harness.create("method", "pca", n_components=5), x)
    rows = (x, x) if by == "activation" else ()
    matching = harness.create("similarity", "latent_matching", by=by)
    assert matching(other, third, *rows) == pytest.approx(matching(one, third, *rows), abs=1e-5)
    assert matching(other, one, *rows) == pytest.approx(1, abs=1e-5)


def test_nothing_that_is_read_of_latents_does() -> None:
    texts = {f"d{i}": " ".join(f"w{i * j % 97}" for j in range(60)) for i in range(80)}
    rows = rows_of(texts, context=1000)
    windows = cut(rows, texts)
    masked = torch.zeros(len(rows), dtype=torch.bool)
    stored = TensorActivations(torch.randn(len(rows), D, generator=torch.Generator().manual_seed(1)), rows)
    read = [read_activations(each, stored, masked, CPU) for each in (one, other)]
    assert torch.equal(read[0].density, read[1].density) and torch.equal(read[0].rows, read[1].rows)
    assert torch.allclose(read[0].thresholds * UNITS[:, None], read[1].thresholds, rtol=1e-5)
    strata = [stratify(each, windows, signed=False) for each in read]
    assert np.array_equal(strata[0].numbers, strata[1].numbers)
    for index in (0, 7):
        near = [nearest(each, index, 1) for each in (one, other)]
        assert [item["index"] for item in near[0]] == [item["index"] for item in near[1]]
    lens = Lens(_Normed, "resid_post.0")
    logits = [torch.cat(list(lens.logits(each.dictionary))) for each in (one, other)]
    assert torch.allclose(*logits, atol=1e-5)


class _Normed:
    """A head behind a LayerNorm, whose epsilon sees how long a direction is."""

    @staticmethod
    def unembed(x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, (D,)) @ torch.eye(D, 7)

    @staticmethod
    def token_texts(ids: list[int]) -> list[str]:
        return [str(i) for i in ids]

    unembedding = token_texts
