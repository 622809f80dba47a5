"""Mutual nearest neighbours against scikit-learn's, with ties and chance worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import harness
from harness.plugins.similarities import neighbours
from tests.support.representations import moved, related, rows


def mutual_knn(**params):
    return harness.create("similarity", "mutual_knn", **params)


def by_scikit_learn(x: torch.Tensor, y: torch.Tensor, k: int, centre: bool = False) -> float:
    found = []
    for side in (x, y):
        side = side.double().numpy()
        side = side - side.mean(axis=0) if centre else side
        # Without a query, the row itself is left out.
        found.append(NearestNeighbors(n_neighbors=k, metric="cosine").fit(side).kneighbors(return_distance=False))
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*found, strict=True)]))


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(("n", "d1", "d2", "k"), [(150, 5, 8, 10), (60, 80, 3, 1), (12, 4, 4, 10), (300, 6, 6, 37)])
def test_equals_scikit_learn(n, d1, d2, k, centre):
    x, y = related(n, d1, d2)
    assert mutual_knn(k=k, centre=centre)(x, y) == pytest.approx(by_scikit_learn(x, y, k, centre), abs=1e-12)


def test_k_is_ten_by_default():
    x, y = related(100, 5, 8)
    assert mutual_knn()(x, y) == mutual_knn(k=10)(x, y) != mutual_knn(k=9)(x, y)


def test_value_worked_out_by_hand():
    angles_x, angles_y = torch.tensor([0.0, 10, 30, 60]).deg2rad(), torch.tensor([0.0, 10, 60, 30]).deg2rad()
    x, y = (torch.stack([a.cos(), a.sin()], dim=1) for a in (angles_x, angles_y))
    # Nearest on x: 1, 0, 1, 2; on y: 1, 0, 3, 1.
    assert mutual_knn(k=1)(x, y) == 0.5


class TestTies:
    def test_equal_rows_share_the_last_places(self):
        """Row 0 has four nearest rows for three places on x; on y rows 1, 2 and 3 are its nearest."""
        x = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1], [0, 1], [-1, 0]])
        x_of_0 = neighbours._membership(neighbours.unit_rows(x), slice(0, 1), 3)[0]
        assert x_of_0.tolist() == [0, 0.75, 0.75, 0.75, 0.75, 0]

    @pytest.mark.parametrize("centre", [False, True])
    def test_a_side_with_equal_rows_is_one_with_itself(self, centre):
        x = rows(40, 5).repeat(6, 1)  # more of each than neighbours
        assert mutual_knn(k=3, centre=centre)(x, x) == pytest.approx(1, abs=1e-12)
        other = mutual_knn(k=3, centre=centre)(x, rows(240, 5, seed=3))
        assert 0 <= other < 0.1

    def test_the_order_of_equal_rows_does_not_matter(self):
        x, y = rows(40, 5).repeat(4, 1), rows(160, 5, seed=3)
        order = torch.randperm(160, generator=torch.Generator().manual_seed(0))
        assert mutual_knn(k=2)(x, y) == pytest.approx(mutual_knn(k=2)(x[order], y[order]), abs=1e-12)

    def test_multiples_of_a_row_are_tied_whatever_rounding_says(self):
        x = torch.cat([rows(30, 7) * factor for factor in (1, 1 / 3, 0.7, 1e5 / 7)])
        shares = neighbours._membership(neighbours.unit_rows(x), slice(0, 120), 2)
        assert ((shares - 2 / 3).abs() < 1e-12).sum() == 3 * 120
        assert (shares > 1e-12).sum() == 3 * 120


def test_of_two_degrees_of_membership_the_smaller_is_shared():
    """Row 0 has two neighbours that tie for one place in x, each to the degree ½, and one neighbour in y: row 1."""
    members = [([1, 2, 5], [0.5, 0.5, 1.0]), ([1, 5], [1.0, 1.0])]
    x, y = (neighbours.Members(torch.tensor(p), torch.tensor(d, dtype=torch.float64)) for p, d in members)
    assert neighbours.overlap(x, y) == neighbours.overlap(y, x) == 0.75


@pytest.mark.parametrize("centre", [False, True])
class TestProperties:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000))
    def test_invariances(self, centre, seed):
        x, y = related(60, 6, 4, seed)
        s = mutual_knn(k=5, centre=centre)
        value = s(x, y)
        assert s.range[0] <= value <= s.range[1]
        assert s.symmetric and s(y, x) == value
        for name, changed in moved(x).items():
            if name in s.invariant_to:
                assert s(changed, y) == pytest.approx(value, abs=1e-9), name
                assert s(y, changed) == pytest.approx(value, abs=1e-9), name

    def test_what_it_is_not_invariant_to(self, centre):
        x, y = (side - side.mean(0) for side in related(200, 6, 4))
        s = mutual_knn(centre=centre)
        changed = moved(x)
        assert set(changed) - s.invariant_to == {"invertible"} | ({"translation"} if not centre else set())
        for name in set(changed) - s.invariant_to:
            assert abs(s(changed[name], y) - s(x, y)) > 0.01, name

    def test_itself_is_one_and_noise_lowers_it(self, centre):
        x, noise = rows(200, 6), rows(200, 6, seed=3)
        s = mutual_knn(centre=centre)
        values = [s(x, x + share * noise) for share in (0.0, 0.1, 0.5, 10.0)]
        assert s.higher_is_more_similar and values[0] == 1
        assert values == sorted(values, reverse=True)

    def test_unrelated_rows_share_as_many_as_chance_says(self, centre):
        """k/(n−1) = 0.0251; the standard error of the mean of 400 rows is about 0.0025."""
        x, y = torch.randn(2, 400, 12, generator=torch.Generator().manual_seed(5))
        assert mutual_knn(centre=centre)(x, y) == pytest.approx(10 / 399, abs=0.008)

    def test_float32_rows_with_a_large_mean(self, centre):
        x, y = (side.float() + 3000 for side in related(300, 8, 6))
        value = mutual_knn(centre=centre)(x, y)
        literal = []
        for side in (x, y):
            side = side.double().numpy().astype(np.longdouble)
            side = side - side.mean(axis=0) if centre else side
            units = side / np.sqrt((side**2).sum(axis=1, keepdims=True))
            distances = ((units[:, None] - units) ** 2).sum(axis=2)
            np.fill_diagonal(distances, np.inf)
            literal.append(np.argsort(distances, axis=1)[:, :10])
        wanted = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*literal, strict=True)])
        assert value == pytest.approx(wanted, abs=1e-9)

    @pytest.mark.parametrize("tile_rows", [1, 7, 149])
    def test_tiles_do_not_matter(self, centre, tile_rows, monkeypatch):
        x, y = related(150, 6, 4)
        x[100:] = x[:50]
        value = mutual_knn(k=4, centre=centre)(x, y)
        monkeypatch.setattr(neighbours, "_TILE_ROWS", tile_rows)
        assert mutual_knn(k=4, centre=centre)(x, y) == pytest.approx(value, abs=1e-12)


class TestUndefined:
    def test_zero_rows(self):
        x, y = related(40, 5, 3)
        y[[4, 30]] = 0
        with pytest.raises(harness.Undefined, match=r"2 of 40 rows of y are zero: .*leave them out"):
            mutual_knn()(x, y)
        half = x[:19].round()
        with pytest.raises(harness.Undefined, match="2 of 40 rows of x are zero once centred"):
            mutual_knn(centre=True)(torch.cat([half, -half, torch.zeros(2, 5)]) + 7, x)

    @pytest.mark.parametrize("k", [11, 12, 50])
    def test_neighbours_that_are_all_rows(self, k):
        x, y = related(12, 5, 3)
        with pytest.raises(harness.Undefined, match=f"k = {k} takes in all other rows of 12; give at least {k + 2}"):
            mutual_knn(k=k)(x, y)

    def test_one_direction(self):
        x = rows(40, 5)
        line = torch.arange(1, 41)[:, None] * torch.tensor([[1 / 3, 0.1, 7.0]], dtype=torch.float64)
        with pytest.raises(harness.Undefined, match="all rows of y have one direction"):
            mutual_knn()(x, line)


def test_too_many_rows_are_refused():
    x = torch.ones(50_001, 1)
    with pytest.raises(harness.ConfigError, match=r"at most 50,000, got 50,001\. Give it fewer"):
        mutual_knn()(x, x)


@pytest.mark.parametrize("k", [0, -3])
def test_k_is_checked(k):
    with pytest.raises(harness.ConfigError, match="at least 1 neighbour"):
        mutual_knn(k=k)
