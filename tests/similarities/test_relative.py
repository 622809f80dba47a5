"""Relative representations against literal loops, with the anchors' part in it checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import harness
from harness.plugins.similarities import neighbours
from tests.support.representations import moved, parts_merged, related, rows

ALL_PAIRS = ["neighbours", "rank"]


def relative(**params):
    return harness.create("similarity", "relative", **params)


def cosine(a, b) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def literal(x: torch.Tensor, y: torch.Tensor, anchors: list[int], centre: bool = False, over=None) -> float:
    x, y = x.double().numpy(), y.double().numpy()
    if centre:
        x, y = x - x[anchors].mean(axis=0), y - y[anchors].mean(axis=0)
    over = range(len(x)) if over is None else over
    vectors = [[[cosine(side[i], side[j]) for j in anchors] for side in (x, y)] for i in over]
    return float(np.mean([cosine(*pair) for pair in vectors]))


@pytest.mark.parametrize("centre", [False, True])
def test_equals_the_definition(centre):
    x, y = related(60, 5, 8)
    anchors = [3, 17, 0, 44, 58]
    s = relative(anchors=anchors, centre=centre)
    wanted = literal(x, y, anchors, centre)
    assert s(x, y) == pytest.approx(wanted, abs=1e-12)
    s.anchors(x[anchors], y[anchors])
    for parts in zip(x.split(7), y.split(7), strict=True):
        s.update(*parts)
    assert s.compute() == pytest.approx(wanted, abs=1e-12)


def test_the_mean_is_over_all_rows():
    x, y = related(60, 5, 8)
    anchors = [1, 2, 3]
    value = relative(anchors=anchors, centre=True)(x, y)
    others = [i for i in range(60) if i not in anchors]
    for wrong in (literal(x, y, anchors, True, anchors), literal(x, y, anchors, True, others)):
        assert abs(value - wrong) > 1e-4


def test_centring_takes_the_anchors_mean_and_not_that_of_all():
    x, y = related(60, 5, 8)
    by_all = literal(x - x.mean(0), y - y.mean(0), [1, 2, 3])
    assert abs(relative(anchors=[1, 2, 3], centre=True)(x, y) - by_all) > 1e-3


def test_value_worked_out_by_hand():
    x = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    y = torch.tensor([[1.0, 0], [1, 1], [0, 1]])
    # Vectors to anchors 0 and 1: (1, 0), (0, 1), (r, r) and (1, r), (r, 1), (0, r), with r = 1/√2.
    wanted = (2 / math.sqrt(1.5) + math.sqrt(0.5)) / 3
    assert relative(anchors=[0, 1])(x, y) == pytest.approx(wanted, abs=1e-12)


def test_drawn_anchors():
    x, y = related(400, 5, 8)
    values = {seed: relative(anchors=20, seed=seed, centre=True)(x, y) for seed in (0, 0, 1, 2)}
    assert len(set(values.values())) == 3
    places = relative(anchors=20).anchor_places(400)
    assert places.tolist() == sorted(set(places.tolist())) and len(places) == 20
    assert relative(anchors=places.tolist(), centre=True)(x, y) == values[0]
    assert len(relative().anchor_places(400)) == 300
    with pytest.raises(harness.Undefined, match="300 anchors can't be drawn from 60 rows"):
        relative()(x[:60], y[:60])
    with pytest.raises(harness.ConfigError, match="row 400, but there are 400"):
        relative(anchors=[3, 400])(x, y)


@pytest.mark.parametrize("anchors", [0, -3, [], [1, 1], [-1], "all", [0.5]])
def test_anchors_are_checked(anchors):
    with pytest.raises(harness.ConfigError, match="anchors"):
        relative(anchors=anchors)


@pytest.mark.parametrize("centre", [False, True])
class TestProperties:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000))
    def test_invariances(self, centre, seed):
        x, y = related(50, 6, 4, seed)
        s = relative(anchors=10, centre=centre)
        value = s(x, y)
        assert s.range[0] <= value <= s.range[1]
        assert s.symmetric and s(y, x) == pytest.approx(value, abs=1e-14)
        for name, changed in moved(x).items():
            if name in s.invariant_to:
                assert s(changed, y) == pytest.approx(value, abs=1e-9), name
                assert s(y, changed) == pytest.approx(value, abs=1e-9), name

    def test_what_it_is_not_invariant_to(self, centre):
        x, y = (side - side.mean(0) for side in related(50, 6, 4))
        s = relative(anchors=10, centre=centre)
        changed = moved(x)
        assert set(changed) - s.invariant_to == {"invertible"} | ({"translation"} if not centre else set())
        for name in set(changed) - s.invariant_to:
            assert abs(s(changed[name], y) - s(x, y)) > 0.01, name

    def test_itself_is_one_and_shuffling_lowers_it(self, centre):
        x, y = (side - side.mean(0) for side in related(400, 5, 8))
        s = relative(anchors=10, centre=centre)
        assert s(x, x) == pytest.approx(1.0, abs=1e-14) and s(x, x) <= 1
        order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
        assert s(x, y[order]) < s(x, y) - 0.02

    def test_float32_rows_with_a_large_mean(self, centre):
        x, y = (side.float() + 3000 for side in related(200, 8, 6))
        anchors = list(range(0, 200, 20))
        assert relative(anchors=anchors, centre=centre)(x, y) == pytest.approx(literal(x, y, anchors, centre), abs=1e-9)

    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def test_any_split_and_merge_order(self, centre, data):
        x, y = related(60, 5, 3)
        s = relative(anchors=10, centre=centre)
        places = s.anchor_places(60)

        def make():
            part = relative(anchors=10, centre=centre)
            part.anchors(x[places], y[places])
            return part

        cuts = sorted(data.draw(st.sets(st.integers(1, 59), max_size=8)))
        streamed = parts_merged(make, x, y, cuts, lambda n: data.draw(st.integers(0, n - 1)))
        assert streamed == pytest.approx(s(x, y), abs=1e-8)


class TestUndefined:
    def test_zero_rows_are_counted(self):
        x, y = related(40, 5, 3)
        y[[4, 30]] = 0
        with pytest.raises(harness.Undefined, match="2 of 40 rows of y have no direction"):
            relative(anchors=[0, 1])(x, y)
        with pytest.raises(harness.Undefined, match="1 of 2 anchors of y are zero"):
            relative(anchors=[0, 4])(x, y)
        with pytest.raises(harness.Undefined, match="2 of 2 anchors of y are zero once centred"):
            relative(anchors=[4, 30], centre=True)(x, y)

    def test_a_row_at_right_angles_to_all_anchors(self):
        x = torch.eye(3)
        with pytest.raises(harness.Undefined, match=r"1 of 3 rows of x .* right angles"):
            relative(anchors=[0, 1])(x, x + 1)

    def test_one_centred_anchor(self):
        x, y = related(40, 5, 3)
        with pytest.raises(harness.Undefined, match="once centred"):
            relative(anchors=1, centre=True)(x, y)


class TestStreaming:
    def test_anchors_come_first(self):
        x, y = related(40, 5, 3)
        with pytest.raises(harness.ConfigError, match="anchors first"):
            relative(anchors=5).update(x, y)
        with pytest.raises(harness.ConfigError, match="at least one"):
            relative(anchors=5).anchors(x[:0], y[:0])

    def test_reset_keeps_the_anchors_and_new_anchors_forget_the_rows(self):
        x, y = related(40, 5, 3)
        s = relative(anchors=5)
        with pytest.raises(harness.Undefined, match="no rows"):
            s.compute()
        s.anchors(x[:5], y[:5])
        s.update(x, y)
        value = s.compute()
        s.reset()
        s.update(x, y)
        assert s.compute() == value
        s.anchors(x[5:9], y[5:9])
        s.update(x, y)
        assert s.compute() == relative(anchors=[5, 6, 7, 8])(x, y) != value

    def test_the_whole_call_leaves_the_stream_alone(self):
        x, y = related(40, 5, 3)
        s = relative(anchors=5)
        s.anchors(x[:5], y[:5])
        s.update(x[:20], y[:20])
        before = s.compute()
        s(y, x)
        assert s.compute() == before

    def test_merging_refuses_other_anchors(self):
        x, y = related(40, 5, 3)
        a, b, empty = relative(anchors=5), relative(anchors=5), relative(anchors=5)
        a.anchors(x[:5], y[:5])
        b.anchors(x[1:6], y[1:6])
        with pytest.raises(harness.ConfigError, match="same anchors"):
            a.merge(b)
        b.merge(empty)
        empty.merge(b)
        empty.update(x, y)
        assert empty.compute() == relative(anchors=[1, 2, 3, 4, 5])(x, y)


class TestSeeds:
    @pytest.mark.parametrize("compare", ["cosine", *ALL_PAIRS])
    def test_the_mean_over_seeds(self, compare):
        x, y = related(60, 5, 8)
        singles = [relative(anchors=9, compare=compare, seed=seed)(x, y) for seed in (4, 5, 6)]
        value = relative(anchors=9, compare=compare, seed=4, n_seeds=3)(x, y)
        assert value == pytest.approx(np.mean(singles), abs=1e-14)
        assert len(set(singles)) == 3

    def test_they_are_streamed(self):
        x, y = related(60, 5, 8)

        def make():
            part = relative(anchors=9, n_seeds=3, centre=True)
            places = part.anchor_places(60)
            assert len(places) == 27
            part.anchors(x[places], y[places])
            return part

        whole = relative(anchors=9, n_seeds=3, centre=True)(x, y)
        assert parts_merged(make, x, y, [7, 30], lambda n: 0) == pytest.approx(whole, abs=1e-12)

    def test_broken_rows_are_counted_once(self):
        x, y = related(40, 5, 3)
        s = relative(anchors=5, n_seeds=3)
        places = s.anchor_places(40)
        broken = sorted(set(range(40)) - set(places.tolist()))[:2]
        y[broken] = 0
        with pytest.raises(harness.Undefined, match="2 of 40 rows of y have no direction"):
            s(x, y)

    def test_rows_that_any_seed_breaks_are_counted(self):
        s = relative(anchors=1, n_seeds=2)
        x = torch.eye(3)
        s.anchors(x[:2], x[:2] + 1)
        s.update(x, x + 1)  # every row is at right angles to one of the two anchors
        with pytest.raises(harness.Undefined, match="3 of 3 rows of x"):
            s.compute()

    def test_anchors_must_be_equally_many(self):
        x, y = related(40, 5, 3)
        with pytest.raises(harness.ConfigError, match="got 7 rows for 3 seeds"):
            relative(anchors=5, n_seeds=3).anchors(x[:7], y[:7])

    @pytest.mark.parametrize("params", [{"n_seeds": 0}, {"n_seeds": -1}, {"n_seeds": 2, "anchors": [1, 2]}])
    def test_they_are_checked(self, params):
        with pytest.raises(harness.ConfigError, match="n_seeds is"):
            relative(**params)


def vectors(x: torch.Tensor, anchors: list[int], centre: bool) -> np.ndarray:
    """Relative vectors, in extended precision: of rows with a large mean they hardly differ."""
    side = x.double().numpy().astype(np.longdouble)
    side = side - side[anchors].mean(axis=0) if centre else side
    units = side / np.sqrt((side**2).sum(axis=1, keepdims=True))
    found = units @ units[anchors].T
    return found / np.sqrt((found**2).sum(axis=1, keepdims=True))


def literal_neighbours(x: np.ndarray, y: np.ndarray, k: int) -> float:
    found = []
    for side in (x, y):
        distances = ((side[:, None] - side) ** 2).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        found.append(np.argsort(distances, axis=1)[:, :k])
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*found, strict=True)]))


def literal_rank(x: np.ndarray, y: np.ndarray) -> float:
    distances = ((x[:, None] - y) ** 2).sum(axis=2)
    ranks = [[1 + (row < row[i]).sum() for i, row in enumerate(d)] for d in (distances, distances.T)]
    return float(np.mean(1 / np.array(ranks)))


@pytest.mark.parametrize("centre", [False, True])
class TestAllPairs:
    @pytest.mark.parametrize("mean", [0, 3000])
    def test_equals_the_definition(self, centre, mean):
        """With float32 rows, and a mean against which they hardly differ."""
        x, y = (side.float() + mean for side in related(150, 6, 8))
        anchors = list(range(0, 150, 12))
        of_x, of_y = vectors(x, anchors, centre), vectors(y, anchors, centre)
        wanted = {"neighbours": literal_neighbours(of_x, of_y, 7), "rank": literal_rank(of_x, of_y)}
        for compare, value in wanted.items():
            s = relative(anchors=anchors, centre=centre, compare=compare, k=7)
            assert s(x, y) == pytest.approx(value, abs=1e-9), compare

    def test_equals_scikit_learn(self, centre):
        x, y = related(150, 6, 8)
        anchors = list(range(0, 150, 12))
        of_x, of_y = (vectors(side, anchors, centre).astype(float) for side in (x, y))
        near = NearestNeighbors(n_neighbors=5, metric="cosine")
        a, b = (near.fit(side).kneighbors(return_distance=False) for side in (of_x, of_y))
        overlap = np.mean([len(set(p) & set(q)) / 5 for p, q in zip(a, b, strict=True)])
        assert relative(anchors=anchors, centre=centre, compare="neighbours", k=5)(x, y) == pytest.approx(overlap)
        near = NearestNeighbors(n_neighbors=150, metric="cosine")
        orders = [near.fit(keys).kneighbors(queries)[1] for keys, queries in ((of_y, of_x), (of_x, of_y))]
        ranks = [[list(row).index(i) + 1 for i, row in enumerate(order)] for order in orders]
        assert relative(anchors=anchors, centre=centre, compare="rank")(x, y) == pytest.approx(
            (1 / np.array(ranks)).mean()
        )

    @pytest.mark.parametrize("compare", ALL_PAIRS)
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000))
    def test_invariances(self, centre, compare, seed):
        x, y = related(50, 6, 4, seed)
        s = relative(anchors=10, centre=centre, compare=compare)
        value = s(x, y)
        assert s.range[0] <= value <= s.range[1]
        assert s.symmetric and s(y, x) == pytest.approx(value, abs=1e-12)
        for name, changed in moved(x).items():
            if name in s.invariant_to:
                assert s(changed, y) == pytest.approx(value, abs=1e-9), name
                assert s(y, changed) == pytest.approx(value, abs=1e-9), name

    @pytest.mark.parametrize("compare", ALL_PAIRS)
    def test_what_it_is_not_invariant_to(self, centre, compare):
        x, y = (side - side.mean(0) for side in related(100, 6, 4))
        s = relative(anchors=10, centre=centre, compare=compare)
        changed = moved(x)
        assert set(changed) - s.invariant_to == {"invertible"} | ({"translation"} if not centre else set())
        for name in set(changed) - s.invariant_to:
            assert abs(s(changed[name], y) - s(x, y)) > 0.01, name

    @pytest.mark.parametrize("compare", ALL_PAIRS)
    def test_itself_is_one_and_unrelated_rows_are_at_chance(self, centre, compare):
        x, noise = rows(400, 6), rows(400, 6, seed=3)
        s = relative(anchors=12, centre=centre, compare=compare)
        values = [s(x, x + share * noise) for share in (0.0, 0.1, 0.5)]
        assert values[0] == pytest.approx(1, abs=1e-12) and values == sorted(values, reverse=True)
        x, y = torch.randn(2, 400, 12, generator=torch.Generator().manual_seed(5))
        chance = {"neighbours": 10 / 399, "rank": sum(1 / r for r in range(1, 401)) / 400}[compare]
        assert s(x, y) == pytest.approx(chance, abs=0.01)

    @pytest.mark.parametrize("compare", ALL_PAIRS)
    def test_tiles_do_not_matter(self, centre, compare, monkeypatch):
        x, y = related(150, 6, 4)
        x[100:] = x[:50]
        s = relative(anchors=12, centre=centre, compare=compare)
        value = s(x, y)
        for tile_rows in (1, 7, 149):
            monkeypatch.setattr(neighbours, "_TILE_ROWS", tile_rows)
            assert s(x, y) == pytest.approx(value, abs=1e-12)


class TestRank:
    def test_ranks_are_shared_where_rows_are_tied(self):
        x = torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0]])
        # Rows 0 and 1 find themselves first or second, as luck has it.
        wanted = (2 * (1 + 1 / 2) / 2 + 2) / 4
        s = relative(anchors=[0, 2], compare="rank")
        assert s(x, x) == pytest.approx(wanted, abs=1e-12)
        apart = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [-1, 0]])
        assert neighbours.mean_reciprocal_rank(*map(neighbours.unit_rows, (x, apart))) == pytest.approx(
            wanted, abs=1e-15
        )

    def test_value_worked_out_by_hand(self):
        x, y = torch.tensor([[1.0, 0], [0, 1], [-1, 0]]), torch.tensor([[1.0, 0], [-1, 0], [0, 1]])
        # Row 0 finds itself first, row 2 second, and row 1 second or third, being tied with row 0.
        assert neighbours.mean_reciprocal_rank(x.double(), y.double()) == pytest.approx(
            (1 + (1 / 2 + 1 / 3) / 2 + 1 / 2) / 3
        )


@pytest.mark.parametrize("compare", ALL_PAIRS)
def test_what_all_pairs_refuse(compare):
    x, y = related(40, 5, 3)
    s = relative(anchors=5, compare=compare)
    assert not s.streams
    with pytest.raises(harness.ConfigError, match=r"at most 50,000, got 50,001\. .*compare='cosine'"):
        s(torch.ones(50_001, 1), torch.ones(50_001, 1))
    with pytest.raises(harness.Undefined, match="all rows of x have one direction"):
        s(x[:1].expand(40, 5), y)
    y[(set(range(40)) - set(s.anchor_places(40).tolist())).pop()] = 0
    with pytest.raises(harness.Undefined, match="1 of 40 rows of y have no direction"):
        s(x, y)
    with pytest.raises(harness.ConfigError, match="at least 1 neighbour"):
        relative(compare=compare, k=0)


def test_large_widths_need_no_broadcast():
    """(rows, anchors, d) in float64 would take 5 GB here."""
    x = rows(4096, 512).float()
    assert relative(anchors=300)(x, x) == pytest.approx(1.0)
