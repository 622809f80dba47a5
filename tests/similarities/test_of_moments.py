"""Duties of every metric over moments: its claims, streams, far means, and no number where there is none."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from tests.support.representations import moved, parts_merged, related, rows

FORMS = [
    ("pwcca", {"side": "smaller"}),
    ("pwcca", {"side": "x"}),
    ("pwcca", {"side": "y"}),
    ("procrustes", {"form": "angular"}),
    ("procrustes", {"form": "normalised"}),
    ("linear_regression", {"estimate": "gcv"}),
    ("linear_regression", {"estimate": "in_sample"}),
]


every_form = pytest.mark.parametrize(
    "make",
    [partial(harness.create, "similarity", name, **params) for name, params in FORMS],
    ids=[f"{name}-{next(iter(params.values()))}" for name, params in FORMS],
)


@every_form
class TestProperties:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10_000), d1=st.integers(2, 6), d2=st.integers(2, 6))
    def test_invariant_to_what_it_claims(self, make, seed, d1, d2):
        x, y = related(80, d1, d2, seed)
        s = make()
        value = s(x, y)
        assert s.range[0] <= value <= s.range[1]
        for name in s.invariant_to:
            assert s(moved(x)[name], y) == pytest.approx(value, abs=1e-7), name
            assert s(x, moved(y)[name]) == pytest.approx(value, abs=1e-7), name

    def test_invariant_to_no_more(self, make):
        """Shifts and scales of one side or the other: what is not claimed must show."""
        x, y = related(80, 6, 5)
        s = make()
        for name in moved(x).keys() - s.invariant_to:
            shifts = abs(s(moved(x)[name], y) - s(x, y)), abs(s(x, moved(y)[name]) - s(x, y))
            assert max(shifts) > 1e-3, name

    def test_symmetric_where_it_says_so(self, make):
        x, y = related(80, 5, 5)
        s = make()
        assert (abs(s(x, y) - s(y, x)) < 1e-10) == s.symmetric

    def test_nothing_is_more_similar_than_itself(self, make):
        x, noise = rows(400, 5), rows(400, 5, seed=3)
        s = make()
        values = [s(x, x + share * noise) for share in (0.0, 0.1, 1.0, 10.0)]
        assert values[0] == pytest.approx(s.range[s.higher_is_more_similar], abs=1e-6)
        assert values == sorted(values, reverse=s.higher_is_more_similar)
        assert s.range[0] <= values[0] <= s.range[1]

    def test_pairing_of_rows_matters_and_their_order_does_not(self, make):
        x, y = related(200, 5, 4)
        order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
        s = make()
        assert s(x[order], y[order]) == pytest.approx(s(x, y), abs=1e-10)
        assert abs(s(x, y[order]) - s(x, y)) > 0.2


@every_form
class TestPrecision:
    @settings(max_examples=15, deadline=None)
    @given(data=st.data())
    def test_any_split_and_merge_order(self, make, data):
        x, y = related(90, 5, 3)
        x, y = x + 1000, y - 500
        cuts = sorted(data.draw(st.sets(st.integers(1, 89), max_size=8)))
        streamed = parts_merged(make, x, y, cuts, lambda n: data.draw(st.integers(0, n - 1)))
        assert streamed == pytest.approx(make()(x, y), abs=1e-8)

    def test_float32_rows_with_a_mean_of_3000(self, make):
        x, y = related(400, 8, 6)
        far_x, far_y = (side.float() + 3000 for side in (x, y))
        assert make()(far_x, far_y) == pytest.approx(make()(far_x.double() - 3000, far_y.double() - 3000), abs=1e-9)
        assert make()(far_x, far_y) == pytest.approx(make()(x, y), abs=1e-4)

    def test_many_pairs_from_one_reading(self, make):
        """The shared moments of a run give what the pair alone gives."""
        s = make()
        x, y = related(120, 5, 4)
        places = {"x": x, "y": y, "z": rows(120, 3, seed=4)}
        shared = s.statistics([("x", "y"), ("y", "z"), ("z", "x")])
        for part in (slice(0, 50), slice(50, 120)):
            block = {name: side[part] for name, side in places.items()}
            shared.update(block, {name: torch.zeros(len(side), dtype=torch.bool) for name, side in block.items()})
        for one, other in [("x", "y"), ("y", "x"), ("z", "y"), ("x", "z")]:
            value = s.value(shared.pair(one, other))
            assert value == pytest.approx(s(places[one], places[other]), abs=1e-8)


@every_form
class TestUndefined:
    def test_no_rows(self, make):
        with pytest.raises(harness.Undefined, match="no rows"):
            make()(torch.zeros(0, 3), torch.zeros(0, 2))

    def test_constant_rows(self, make):
        x = rows(40, 4)
        constant = torch.full((40, 3), 0.1, dtype=torch.float64)  # a mean by sum and quotient is not 0.1
        for side, pair in {"y": (x, constant), "x": (constant.float() + 3000, x)}.items():
            with pytest.raises(harness.Undefined, match=f"the rows of {side} are constant"):
                make()(*pair)

    def test_one_row(self, make):
        with pytest.raises(harness.Undefined, match="constant"):
            make()(rows(1, 3), rows(1, 2))

    def test_scales(self, make):
        """Values there are for all that float64 can hold; what it can't is said."""
        x, y = related(60, 4, 3)
        assert make()(x, y * 1e100) == pytest.approx(make()(x, y), abs=1e-9)
        with pytest.raises(harness.Undefined, match="the scale of y leaves the range of float64; rescale it"):
            make()(x, y * 1e200)

    def test_rows_that_are_not_finite(self, make):
        x, y = related(20, 4, 3)
        y[[5, 9], 1] = torch.tensor([math.nan, math.inf], dtype=torch.float64)
        with pytest.raises(harness.Undefined, match=r"2 of 20 rows of y .* first row 5"):
            make()(x, y)
