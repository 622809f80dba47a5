"""Tasks that compare rows: functions that are known to keep, or to break, what is asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import harness
from tests.support.toy_comparisons import comparisons, scores_of, sites_of

SITES = sites_of({"a": "small", "b": "small"}, n_layers=4)


def frobenius_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA, written out."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def first_column(x: Tensor, y: Tensor) -> float:
    """Depends on the basis: how alike the first columns are."""
    return float(torch.corrcoef(torch.stack([x[:, 0], y[:, 0]]))[0, 1].abs())


def test_invariance_tells_a_metric_of_the_basis_from_one_of_the_representation() -> None:
    kept = scores_of("invariance", comparisons(SITES, lambda a, b: 0.0, compare=frobenius_cka), n_rows=100)
    assert kept["respected", "small"] == 1
    assert max(value for (metric, _), value in kept.items() if metric != "respected") < 1e-9

    found = scores_of("invariance", comparisons(SITES, lambda a, b: 0.0, compare=first_column), n_rows=100)
    for change, is_kept in {
        **{"equality": True, "rotation": False, "scale": True, "translation": True, "column_order": False},
        **{"empty_columns": True, "row_order": True},
    }.items():
        assert (found[f"deviation_{change}", "small"] < 0.01) == is_kept, change
    # Of fourteen answers, four or fewer are wrong: a rotation or a new order may move the value by little.
    assert 10 / 14 <= found["respected", "small"] < 1


def test_rows_in_another_order_on_one_side_only_would_be_noticed() -> None:
    """The order of rows is changed on both sides alike: an aligned metric must not move."""

    def aligned(x: Tensor, y: Tensor) -> float:
        return float(torch.cosine_similarity(x[:, :6], y[:, :6]).mean())

    found = scores_of("invariance", comparisons(SITES, lambda a, b: 0.0, compare=aligned), n_rows=100)
    assert found["deviation_row_order", "small"] < 1e-12


def test_an_undefined_answer_is_wrong() -> None:
    undefined = comparisons(SITES, lambda a, b: 0.0)
    assert scores_of("invariance", undefined, n_rows=100)["respected", "small"] == 0
    assert scores_of("noise_sensitivity", undefined, n_rows=100) == {
        ("violation_rate", "small"): 1,
        ("rank_correlation", "small"): -1,
    }
    assert scores_of("sample_size", undefined, n_rows=100)["error", "small"] == 1


def test_noise_must_make_rows_less_alike() -> None:
    found = scores_of("noise_sensitivity", comparisons(SITES, lambda a, b: 0.0, compare=frobenius_cka), n_rows=100)
    assert found == {("violation_rate", "small"): 0, ("rank_correlation", "small"): pytest.approx(1)}
    upside_down = comparisons(SITES, lambda a, b: 0.0, compare=lambda x, y: -frobenius_cka(x, y))
    found = scores_of("noise_sensitivity", upside_down, n_rows=100)
    assert found == {("violation_rate", "small"): 1, ("rank_correlation", "small"): pytest.approx(-1)}


def test_sample_size_counted_by_hand() -> None:
    """A value of 1/n: off by 7/n, 3/n and 1/n for an eighth, a quarter and half of n rows."""
    compared = comparisons(SITES, lambda a, b: 0.0, compare=lambda x, y: 1 / len(x), n_rows=64)
    found = scores_of("sample_size", compared, n_rows=64)
    assert found["error", "small"] == pytest.approx((7 + 3 + 1) / 3 / 64)
    assert found["error_eighth", "small"] == pytest.approx(7 / 64)


def test_the_middle_sites_are_compared_and_too_few_rows_refused() -> None:
    seen = []
    compared = comparisons(SITES, lambda a, b: 0.0, compare=lambda x, y: 1 / len(x), n_rows=64)
    spied = harness.Comparisons(
        compared.sites,
        compared.alike,
        compared.unrelated,
        lambda i, j: (seen.append((i, j)), compared.shared_rows(i, j))[1],
        compared.compare,
    )
    scores_of("sample_size", spied, n_rows=64)
    assert [(compared.sites[i].layer, compared.sites[j].layer) for i, j in seen] == [(2, 1), (2, 1)]
    with pytest.raises(harness.Undefined, match="a has 64 evaluation rows, fewer than n_rows: 65"):
        scores_of("sample_size", compared, n_rows=65)
