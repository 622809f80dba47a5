"""RSA against scipy's distances and rank correlation, and the invariances that it claims."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, rankdata, spearmanr

import harness
from harness.plugins.similarities.rsa import _ranks
from tests.support.representations import moved, related, rows

FORMS = [(of, by) for of in ("correlation", "euclidean") for by in ("spearman", "pearson")]


def rsa(dissimilarity="correlation", compare="spearman", **params):
    return harness.create("similarity", "rsa", dissimilarity=dissimilarity, compare=compare, **params)


def by_scipy(x: torch.Tensor, y: torch.Tensor, dissimilarity: str, compare: str) -> float:
    pairs = [pdist(side.double().numpy(), dissimilarity) for side in (x, y)]
    return float((spearmanr if compare == "spearman" else pearsonr)(*pairs).statistic)


@pytest.mark.parametrize(("dissimilarity", "compare"), FORMS)
@pytest.mark.parametrize(("n", "d1", "d2"), [(120, 5, 8), (30, 60, 4), (3, 4, 4)])
def test_equals_scipy(dissimilarity, compare, n, d1, d2):
    x, y = related(n, d1, d2)
    assert rsa(dissimilarity, compare)(x, y) == pytest.approx(by_scipy(x, y, dissimilarity, compare), abs=1e-10)


def test_the_defaults_are_those_of_the_paper():
    x, y = related(60, 5, 8)
    assert harness.create("similarity", "rsa")(x, y) == rsa("correlation", "spearman")(x, y)


def test_value_worked_out_by_hand():
    x, y = torch.tensor([[0.0], [1], [3]]), torch.tensor([[0.0], [5], [4]])
    # Pairs 01, 02, 12: distances 1, 3, 2 and 5, 4, 1, so ranks 1, 3, 2 and 3, 2, 1.
    assert rsa("euclidean")(x, y) == pytest.approx(-0.5, abs=1e-12)
    assert rsa("euclidean", "pearson")(x, y) == pytest.approx(-1 / np.sqrt(2 * 26 / 3), abs=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=60))
def test_ranks_are_scipys(values):
    assert _ranks(torch.tensor(values, dtype=torch.float64)).tolist() == rankdata(values).tolist()


class TestTies:
    @pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
    def test_equal_rows_are_tied_at_zero(self, dissimilarity):
        """Distances rounded to 12 digits, so that scipy's are tied too where rows are equal."""
        x, y = related(60, 7, 5)
        x[20:40], y[35:60] = x[:20], y[5:30]
        pairs = [pdist(side.numpy(), dissimilarity).round(12) for side in (x, y)]
        assert rsa(dissimilarity)(x, y) == pytest.approx(spearmanr(*pairs).statistic, abs=1e-12)

    def test_multiples_of_a_row_are_tied_whatever_rounding_says(self):
        x = torch.cat([rows(20, 7) * factor for factor in (1, 1 / 3, 0.7, 1e5 / 7)])
        dissimilarities = rsa()._dissimilarities("x", x)
        assert (dissimilarities == 0).sum() == 20 * 6


@pytest.mark.parametrize(("dissimilarity", "compare"), FORMS)
class TestProperties:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000))
    def test_invariances(self, dissimilarity, compare, seed):
        x, y = related(50, 6, 4, seed)
        s = rsa(dissimilarity, compare)
        value = s(x, y)
        assert s.range[0] <= value <= s.range[1]
        assert s.symmetric and s(y, x) == pytest.approx(value, abs=1e-14)
        for name, changed in moved(x).items():
            if name in s.invariant_to:
                assert s(changed, y) == pytest.approx(value, abs=1e-8), name
                assert s(y, changed) == pytest.approx(value, abs=1e-8), name

    def test_what_it_is_not_invariant_to(self, dissimilarity, compare):
        x, y = related(80, 6, 4)
        s = rsa(dissimilarity, compare)
        changed = moved(x)
        variant = {"invertible"} if dissimilarity == "euclidean" else {"invertible", "orthogonal", "translation"}
        assert set(changed) - s.invariant_to == variant
        for name in variant:
            assert abs(s(changed[name], y) - s(x, y)) > 0.004, name

    def test_itself_is_one_and_noise_lowers_it(self, dissimilarity, compare):
        x, noise = rows(150, 5), rows(150, 5, seed=3)
        s = rsa(dissimilarity, compare)
        values = [s(x, x + share * noise) for share in (0.0, 0.3, 1.0, 10.0)]
        assert s.higher_is_more_similar and values[0] == pytest.approx(1, abs=1e-14)
        assert values == sorted(values, reverse=True)

    def test_unrelated_rows_are_near_zero(self, dissimilarity, compare):
        x, y = torch.randn(2, 300, 12, generator=torch.Generator().manual_seed(5))
        assert abs(rsa(dissimilarity, compare)(x, y)) < 0.03

    def test_float32_rows_with_a_large_mean(self, dissimilarity, compare):
        x, y = (side.float() + 3000 for side in related(200, 8, 6))
        wanted = by_scipy(x - x[0], y - y[0], "euclidean", compare)  # exact in float32
        if dissimilarity == "correlation":
            wanted = by_scipy(x, y, dissimilarity, compare)
        assert rsa(dissimilarity, compare)(x, y) == pytest.approx(wanted, abs=1e-8)


class TestSample:
    def test_rows_are_drawn_once_with_the_seed(self):
        x, y = related(200, 6, 4)
        values = {seed: rsa(n_rows=50, seed=seed)(x, y) for seed in (0, 1, 2)}
        assert len(set(values.values())) == 3
        assert rsa(n_rows=50)(x, y) == values[0]
        order = torch.randperm(200, generator=torch.Generator().manual_seed(1))[:50]
        assert values[1] == pytest.approx(by_scipy(x[order], y[order], "correlation", "spearman"), abs=1e-10)

    def test_it_estimates_the_value_of_all_rows(self):
        """A mistake such as drawing each side for itself gives about 0."""
        x, y = related(800, 6, 4)
        values = [rsa("euclidean", n_rows=200, seed=seed)(x, y) for seed in range(20)]
        assert np.mean(values) == pytest.approx(rsa("euclidean")(x, y), abs=0.02)

    def test_fewer_rows_are_all_taken(self):
        x, y = related(40, 6, 4)
        assert rsa(n_rows=50)(x, y) == rsa(n_rows=40)(x, y) == rsa()(x, y)

    def test_too_many_rows_are_refused_unless_some_are_drawn(self):
        x = rows(5001, 2)
        for params in ({}, {"n_rows": 5001}):
            with pytest.raises(harness.ConfigError, match=r"at most 5,000, got 5,001\. .*parameter n_rows"):
                rsa(**params)(x, x)
        assert rsa("euclidean", n_rows=20)(x, x) == pytest.approx(1, abs=1e-14)

    @pytest.mark.parametrize("n_rows", [2, 0, -5])
    def test_n_rows_is_checked(self, n_rows):
        with pytest.raises(harness.ConfigError, match="n_rows is"):
            rsa(n_rows=n_rows)


class TestUndefined:
    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_too_few_rows(self, n):
        with pytest.raises(harness.Undefined, match=f"needs 3 rows, got {n}"):
            rsa()(rows(n, 4), rows(n, 4))

    def test_rows_that_do_not_vary_over_features(self):
        x, y = related(40, 5, 3)
        y[[3, 9]] = torch.tensor([[0.1], [1e5 / 3]], dtype=torch.float64)
        with pytest.raises(
            harness.Undefined, match=r"2 of 40 rows of y have the same value in all features.*euclidean"
        ):
            rsa()(x, y)
        with pytest.raises(harness.Undefined, match="40 of 40 rows of y"):
            rsa()(x, y[:, :1])
        assert -1 <= rsa("euclidean")(x, y) <= 1

    @pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
    def test_pairs_that_are_all_alike(self, dissimilarity):
        x, y = related(6, 5, 3)
        for same in (y[:1].expand(6, 3), torch.eye(6), 0.1 * torch.eye(6) + 1 / 3):
            with pytest.raises(harness.Undefined, match="all pairs of rows of y are equally dissimilar"):
                rsa(dissimilarity)(x, same)
        with pytest.raises(harness.Undefined, match="all pairs of rows of x are equally"):
            rsa()(torch.arange(1, 7)[:, None] * x[:1], y)
