"""Jaccard, overlap and chance on small dictionaries whose answers can be counted."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness


class Stub(harness.Decomposition):
    """A decomposition with atoms; what it does to rows is of no interest here."""

    def encode(self, x):
        return harness.Codes(x)

    def decode(self, codes):
        return codes.values


def jaccard(key="token"):
    return harness.create("similarity", "jaccard", key=key)


def table(places, width=128) -> pd.DataFrame:
    """Places are (document, token number) where windows have 128 tokens and tokens 4 characters."""
    places = list(places)
    document = np.array([document for document, _ in places], dtype=object)
    token = np.array([token for _, token in places], dtype=np.int64)
    columns = {"document": document, "window": token // width, "position": token % width, "end": token * 4 + 4}
    return harness.make_rows(columns).drop(columns=["special"])


def stub(atoms, candidates=None, tokenizer_hash=None) -> Stub:
    decomposition = Stub()
    decomposition.atoms = table(atoms)
    decomposition.candidates = None if candidates is None else table(candidates).drop(columns="start")
    decomposition.tokenizer_hash = tokenizer_hash
    return decomposition


POOL = list(itertools.product(["a", "b"], range(0, 200)))
places = st.sets(st.sampled_from(POOL), min_size=1, max_size=30)


@settings(max_examples=10, deadline=None)
@given(places, places)
def test_equals_the_index_of_the_sets(a, b):
    expected = len(a & b) / len(a | b)
    by_luck = len(a) * len(b) / len(POOL)
    for key in ("token", "end"):
        s, pair = jaccard(key), (stub(a, POOL), stub(b, POOL))
        assert s(*pair) == s(*pair[::-1]) == expected
        assert s.overlap(*pair) == len(a & b) / min(len(a), len(b))
        assert s.chance(*pair) == pytest.approx(by_luck / (len(a) + len(b) - by_luck))
        assert s(pair[0], pair[0]) == 1.0


def test_states_what_it_is():
    s = jaccard()
    assert (s.higher_is_more_similar, s.range, s.symmetric, s.streams) == (True, (0.0, 1.0), True, False)
    assert s.invariant_to == frozenset()
    (spec,) = (spec for spec in harness.catalog("similarity") if spec.name == "jaccard")
    assert spec.needs == ("atoms",)


@pytest.mark.parametrize(("n", "expected"), [(100, 0.051), (300, 0.172), (600, 0.414)])
def test_chance_is_what_luck_gives(n, expected):
    """The published table of chance for n atoms each of 1,024 candidates, and drawing them."""
    pool = [("a", token) for token in range(1024)]
    generator = np.random.default_rng(0)

    def drawn() -> Stub:
        return stub([pool[i] for i in generator.choice(1024, n, replace=False)], pool)

    s = jaccard()
    values = [s(drawn(), drawn()) for _ in range(20)]
    chance = s.chance(drawn(), drawn())
    assert chance == pytest.approx(expected, abs=5e-4)
    assert np.mean(values) == pytest.approx(chance, abs=0.01)


def _corrected(index: Fraction, n_a: int, n_b: int, m: int) -> Fraction:
    """From its definition, in whole numbers: b's atoms fixed, all C(m, n_a) draws of a's are counted."""
    indices = {i: Fraction(i, n_a + n_b - i) for i in range(max(0, n_a + n_b - m), min(n_a, n_b) + 1)}
    expected = sum(comb(n_b, i) * comb(m - n_b, n_a - i) * j for i, j in indices.items()) / comb(m, n_a)
    return (index - expected) / (max(indices.values()) - expected)


@settings(max_examples=10, deadline=None)
@given(places, places)
def test_corrected_is_the_adjusted_index(a, b):
    index = Fraction(len(a & b), len(a | b))
    for key in ("token", "end"):
        s, pair = jaccard(key), (stub(a, POOL), stub(b, POOL))
        wanted = float(_corrected(index, len(a), len(b), len(POOL)))
        assert s.corrected(*pair) == pytest.approx(s.corrected(*pair[::-1])) == pytest.approx(wanted, abs=1e-9)
        assert s.corrected(pair[0], pair[0]) == pytest.approx(1, abs=1e-12)


def test_corrected_is_0_on_average_and_1_for_as_much_in_common_as_can_be():
    """Over all pairs of sets of 1 and of 2 of 4 candidates; `chance` in the place of E[J] would leave more than 0."""
    pool = [("a", i) for i in range(4)]
    small, large = ([stub(chosen, pool) for chosen in itertools.combinations(pool, n)] for n in (1, 2))
    s = jaccard()
    values = np.array([[s.corrected(a, b) for b in large] for a in small])
    assert values.mean() == pytest.approx(0, abs=1e-12)
    assert np.abs(values.mean(axis=1)).max() < 1e-12  # whichever set is fixed
    inside = [[set(a.atoms["position"]) <= set(b.atoms["position"]) for b in large] for a in small]
    assert (np.isclose(values, 1) == np.array(inside)).all()
    assert s(small[0], large[0]) == 1 / 2
    by_chance = np.mean([[s(a, b) - s.chance(a, b) for b in large] for a in small])
    assert by_chance > 0.01


def test_corrected_counts_what_each_side_chose_of_the_shared_candidates():
    a_pool, b_pool = [("a", i) for i in range(100)], [("a", i) for i in range(50, 250)]
    a, b = stub(a_pool[40:60], a_pool), stub(b_pool[:20], b_pool)  # 10 and 20 of 50, 10 of them in common
    assert jaccard().corrected(a, b) == pytest.approx(1)
    b = stub(b_pool[5:25], b_pool)
    expected = sum(comb(20, i) * comb(30, 10 - i) * Fraction(i, 40 - i) for i in range(11)) / comb(50, 10)
    assert jaccard().corrected(a, b) == pytest.approx(
        float((Fraction(5, 35) - expected) / (Fraction(10, 30) - expected))
    )


def test_corrected_of_large_dictionaries():
    """The numbers of ways are beyond float64."""
    pool = [("a", i) for i in range(4000)]
    a, b = stub(pool[:600], pool), stub(pool[200:700], pool)
    wanted = _corrected(Fraction(400, 700), 600, 500, 4000)
    assert jaccard().corrected(a, b) == pytest.approx(float(wanted), abs=1e-9)


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 3), (5, 3), (5, 5)])
def test_corrected_has_no_value_where_only_one_is_possible(n_a, n_b):
    pool = [("a", i) for i in range(5)]
    with pytest.raises(harness.Undefined, match=f"one side has {n_a} as atoms and the other {n_b}"):
        jaccard().corrected(stub(pool[:n_a], pool), stub(pool[:n_b], pool))


def test_chance_with_pools_that_differ():
    """Only what both sides could choose can be chosen by both."""
    a_pool, b_pool = [("a", i) for i in range(100)], [("a", i) for i in range(50, 250)]
    a, b = stub(a_pool[:10], a_pool), stub(b_pool[:20], b_pool)
    by_luck = 10 * 20 * 50 / (100 * 200)
    assert jaccard().chance(a, b) == pytest.approx(by_luck / (30 - by_luck))


@pytest.mark.parametrize(("n_a", "n_b"), [(80, 400), (80, 80), (400, 400)])
def test_chance_where_one_fit_was_full_before_the_other_is_what_a_simulation_gives(n_a, n_b):
    """40 of the first n_a rows against 60 of the first n_b: |A ∩ B| is hypergeometric in the larger number."""
    generator = np.random.default_rng(0)

    def drawn(n, n_atoms) -> Stub:
        return stub([POOL[i] for i in generator.choice(n, n_atoms, replace=False)], POOL[:n])

    s = jaccard()
    pairs = [(drawn(n_a, 40), drawn(n_b, 60)) for _ in range(25)]
    values = np.array([[s(*pair), s.chance(*pair), s.corrected(*pair)] for pair in pairs])
    expected = sum(
        comb(60, i) * comb(max(n_a, n_b) - 60, 40 - i) * Fraction(i, 100 - i) for i in range(41) if 40 - i <= n_b - 60
    ) / comb(max(n_a, n_b), 40)
    assert values[:, 1].mean() == pytest.approx(float(expected), abs=0.004)  # of E|A ∩ B|, not of J
    assert values[:, 0].mean() == pytest.approx(float(expected), abs=0.015)
    assert values[:, 2].mean() == pytest.approx(0, abs=0.08)


def test_rows_that_came_after_a_fit_was_full_are_no_candidates():
    """Two fits see but the first 50 of 400 rows, and take 20 of these: that they share many is luck."""
    x = torch.randn(len(POOL), 12, generator=torch.Generator().manual_seed(0))
    y = torch.randn(len(POOL), 12, generator=torch.Generator().manual_seed(1))
    rows = harness.make_rows({**table(POOL), "special": None})
    fits = []
    for side in (x, y):
        for name, params in (("itda", {}), ("itda_paper", {"threshold": 1e-6})):
            learner = harness.create("method", name, k=2, max_atoms=20, batch_rows=50, **params)
            with pytest.warns(RuntimeWarning, match="full"):
                fits.append(harness.fit(learner, side, rows))
    for fit in fits:
        assert fit.rows_until_full == fit.n_candidates == 50
        pd.testing.assert_frame_equal(fit.candidates, rows[["document", "window", "position", "end"]].iloc[:50])
    s = jaccard()
    assert s.chance(fits[0], fits[2]) == pytest.approx((20 * 20 / 50) / (40 - 20 * 20 / 50))


def test_windows_tell_positions_apart():
    a, b = stub([("a", 5)], POOL), stub([("a", 133)], POOL)
    assert (a.atoms["position"] == b.atoms["position"]).all()
    assert jaccard()(a, b) == 0.0


def test_without_windows_positions_must_be_unique():
    one_window = [("a", token) for token in range(128)]
    a, b = stub([("a", 5), ("a", 6)], one_window), stub([("a", 6)], one_window)
    del a.atoms["window"]
    assert jaccard()(a, b) == 0.5
    c, d = stub([("a", 5)], POOL), stub([("a", 133)], POOL)
    del c.atoms["window"]
    assert jaccard()(c, d) == jaccard("end")(c, d) == 0.0  # ends tell the windows apart
    assert jaccard()(c, c) == 1.0
    c.candidates["end"] = pd.NA
    with pytest.raises(harness.Undefined, match="'window'"):
        jaccard()(c, d)


def test_tokenizers_must_not_differ():
    same = stub([("a", 5)], POOL, "one"), stub([("a", 5)], POOL, "one")
    other = stub([("a", 5)], POOL, "two")
    assert jaccard()(*same) == 1.0
    assert jaccard()(same[0], stub([("a", 5)], POOL)) == 1.0
    with pytest.raises(harness.ConfigError, match="key='end'"):
        jaccard()(same[0], other)
    assert jaccard("end")(same[0], other) == 1.0


def test_ends_are_restricted_to_shared_ones():
    """Two atoms of a are at ends where b has no token, one of b's where a has none: they count for nothing."""
    a = stub([("a", i) for i in (0, 1, 2, 3)], [("a", i) for i in range(0, 10)])
    b = stub([("a", i) for i in (2, 4, 11)], [("a", i) for i in range(2, 12)])
    s = jaccard("end")
    assert s(a, b) == 1 / 3  # {2, 3} and {2, 4}
    assert s.overlap(a, b) == 1 / 2
    assert s.chance(a, b) == pytest.approx(0.5 / 3.5)  # 2 · 2 / 8
    assert jaccard("token")(a, b) == 1 / 6


def test_tokens_that_end_at_one_character_are_one_place():
    """A byte-level tokenizer may split one emoji into several tokens."""
    a, b = stub([("a", 0), ("a", 1)], [("a", 0), ("a", 1), ("a", 2)]), stub([("a", 0)], [("a", 0), ("a", 2)])
    for rows in (a.atoms, a.candidates):
        rows.loc[1, "end"] = 4
    assert jaccard("end")(a, b) == 1.0
    assert jaccard("token")(a, b) == 0.5


def test_rows_without_end_are_in_no_pool():
    a, b = stub([("a", 0), ("a", 1)], POOL), stub([("a", 1)], POOL)
    a.atoms.loc[0, "end"] = pd.NA
    a.candidates.loc[0, "end"] = pd.NA
    assert jaccard("end")(a, b) == 1.0
    a.candidates["end"] = pd.array([pd.NA] * len(a.candidates), dtype="Int64")
    with pytest.raises(harness.ConfigError, match="candidates of a have no ends"):
        jaccard("end")(a, b)


def test_refusals_name_the_side():
    with_atoms, without = stub([("a", 0)], POOL), Stub()
    for key in ("token", "end"):
        with pytest.raises(harness.ConfigError, match=r"b \(Stub\) has no atoms"):
            jaccard(key)(with_atoms, without)
        with pytest.raises(harness.ConfigError, match=r"a \(Stub\) has no atoms"):
            jaccard(key)(without, with_atoms)
    no_pool = stub([("a", 0)])
    assert jaccard()(with_atoms, no_pool) == 1.0
    with pytest.raises(harness.ConfigError, match="chance needs the candidates"):
        jaccard().chance(with_atoms, no_pool)
    with pytest.raises(harness.ConfigError, match="corrected needs the candidates"):
        jaccard().corrected(with_atoms, no_pool)
    with pytest.raises(harness.ConfigError, match="candidates of b"):
        jaccard("end")(with_atoms, no_pool)


@pytest.mark.parametrize("key", ["token", "end"])
def test_undefined(key):
    elsewhere = [("z", i) for i in range(5)]
    with pytest.raises(harness.Undefined, match="candidate on both sides"):
        jaccard(key)(stub([("a", 0)], POOL), stub([("z", 0)], elsewhere))
    empty = stub([], POOL)
    with pytest.raises(harness.Undefined, match="neither side"):
        jaccard(key)(empty, empty)
    assert jaccard(key)(empty, stub([("a", 0)], POOL)) == 0.0
    with pytest.raises(harness.Undefined, match="no atom among"):
        jaccard(key).overlap(empty, stub([("a", 0)], POOL))


def test_ids_and_indices_of_documents_share_nothing():
    indices = stub([(0, 0)], [(0, i) for i in range(5)])
    indices.candidates["document"] = indices.candidates["document"].astype(np.int64)
    with pytest.raises(harness.Undefined):
        jaccard()(indices, stub([("a", 0)], POOL))


@pytest.mark.parametrize("key", ["token", "end"])
def test_survives_saving(key, tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(POOL), 6, generator=generator)
    rows = harness.make_rows({**table(POOL), "special": None})
    fits = [
        harness.fit(harness.create("method", "itda", k=2, max_atoms=40), x + shift * x.roll(1, dims=1), rows)
        for shift in (0.0, 0.1)
    ]
    loaded = []
    for number, decomposition in enumerate(fits):
        decomposition.save(tmp_path / str(number))
        loaded.append(harness.load(tmp_path / str(number)))
    for name in ("__call__", "chance", "overlap", "corrected"):
        assert getattr(jaccard(key), name)(*fits) == getattr(jaccard(key), name)(*loaded)
    assert 0 < jaccard(key)(*fits) < 1
