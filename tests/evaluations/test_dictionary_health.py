"""The evaluation `dictionary_health` against numpy, one latent at a time, and where its numbers have no value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import harness
from harness.plugins.evaluations import dictionary_health
from tests.support.declared import assert_declared


class Stub(harness.Decomposition):
    def __init__(self, dictionary: Tensor | None, signed: bool = True) -> None:
        self.dictionary, self.signed = dictionary, signed

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values


def evaluate(dictionary: Tensor, signed: bool = True) -> dict[str, harness.TableRow]:
    context = harness.context_of(torch.ones(2, 3))
    rows = harness.create("evaluation", "dictionary_health").evaluate(Stub(dictionary, signed), context)
    assert_declared("dictionary_health", rows)
    assert all((row.value is None) == (row.reason is not None) and row.n == len(dictionary) for row in rows)
    return {row.metric: row for row in rows}


def values(dictionary: Tensor, signed: bool = True) -> dict[str, float | None]:
    return {name: row.value for name, row in evaluate(dictionary, signed).items()}


def expected(dictionary: np.ndarray, signed: bool) -> dict[str, float]:
    directions = dictionary / np.linalg.norm(dictionary, axis=1, keepdims=True)
    nearest = []
    for i, own in enumerate(directions):
        cosines = [own @ other for j, other in enumerate(directions) if j != i]
        nearest.append(max(abs(c) for c in cosines) if signed else max(cosines))
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(directions @ directions.T), 0, None))
    p = singular[singular > 1e-7] / singular.sum()
    rank = np.exp(-(p * np.log(p)).sum())
    return {
        "nearest_cosine": np.mean(nearest),
        "collinear_share": np.mean(np.array(nearest) > 0.9),
        "duplicate_share": np.mean(np.array(nearest) > 0.999),
        "effective_rank": rank,
        "effective_rank_share": rank / min(dictionary.shape),
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 8), st.booleans(), st.integers(1, 200), st.integers(0, 1000))
def test_equals_the_formulas_whatever_the_block(m: int, d: int, signed: bool, block: int, seed: int) -> None:
    dictionary = np.random.default_rng(seed).normal(size=(m, d))
    dictionary[m // 2] = -3 * dictionary[0] + 0.01
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionary_health, "_BLOCK_COSINES", block)
        found = values(torch.from_numpy(dictionary), signed)
    assert found == pytest.approx(expected(dictionary, signed), abs=1e-5)


def test_an_opposite_direction_is_the_same_latent_only_where_codes_are_signed() -> None:
    dictionary = torch.tensor([[1.0, 0, 0], [-2, 0, 0], [0, 1, 0]])
    assert values(dictionary, signed=True)["duplicate_share"] == pytest.approx(2 / 3)
    assert values(dictionary, signed=False)["nearest_cosine"] == 0


def test_lengths_do_not_matter_and_orthogonal_directions_have_full_rank() -> None:
    found = values(torch.diag(torch.tensor([1.0, 5, 1000, 0.001])))
    assert found == pytest.approx(
        {
            "nearest_cosine": 0,
            "collinear_share": 0,
            "duplicate_share": 0,
            "effective_rank": 4,
            "effective_rank_share": 1,
        }
    )
    assert values(torch.ones(6, 4))["effective_rank"] == pytest.approx(1, abs=1e-5)


def test_without_a_value() -> None:
    alone = evaluate(torch.ones(1, 4))
    assert alone["nearest_cosine"].reason == "there is one latent" and alone["effective_rank"].value == 1
    assert {row.reason for row in evaluate(torch.empty(0, 4)).values()} == {"there are no latents"}
    dictionary = torch.randn(5, 4)
    dictionary[2] = 0
    reasons = {row.reason for row in evaluate(dictionary).values()}
    assert reasons == {"1 of 5 latents have a dictionary row of norm 0"}
    with pytest.raises(harness.PluginError, match=r"Stub\.dictionary holds NaN"):
        evaluate(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(harness.Undefined, match="Stub has no dictionary"):
        harness.create("evaluation", "dictionary_health").evaluate(Stub(None), harness.context_of(torch.ones(1, 1)))


def test_every_method_s_dictionary_can_be_judged() -> None:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    for name, params in {
        "identity": {},
        "mean": {},
        "pca": {"n_components": 4},
        "kmeans": {"n_latents": 9, "k": 2},
    }.items():
        decomposition = harness.fit(harness.create("method", name, **params), x)
        assert decomposition.dictionary is not None
        found = values(decomposition.dictionary)
        assert (found["effective_rank"] is None) == (name == "mean")
