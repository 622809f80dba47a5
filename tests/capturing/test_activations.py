"""The order of a stream: a function of seed, pass, document and end, and of nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.capturing import activations
from harness.capturing.activations import stream_order
from harness.contracts.rows import bare_rows, make_rows
from tests.support.parts import rows_of_text, stream_of


def _ordered(rows: pd.DataFrame, seed: int = 0, pass_number: int = 0) -> list[tuple[str, int]]:
    ordered = rows.iloc[stream_order(rows, seed, pass_number).numpy()]
    return list(zip(ordered["document"], ordered["end"], strict=True))


def _model_rows(ends_by_document: dict[str, list[int]], context: int) -> pd.DataFrame:
    """The rows of a model whose tokens end at these characters, in windows of `context` tokens."""
    columns: dict[str, list[object]] = {"document": [], "window": [], "position": [], "end": []}
    for document, ends in ends_by_document.items():
        for place, end in enumerate(ends):
            for name, value in zip(columns, (document, place // context, place % context, end), strict=True):
                columns[name].append(value)
    return make_rows(columns)


documents = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.tuples(*[st.sets(st.integers(1, 200), min_size=1, max_size=30)] * 2),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(0, 2**32), st.integers(0, 3))
def test_two_models_see_the_rows_they_share_in_the_same_relative_order(
    documents: dict[str, tuple[set[int], set[int]]], seed: int, pass_number: int
) -> None:
    one = _model_rows({name: sorted(ends) for name, (ends, _) in documents.items()}, context=4)
    other = _model_rows({name: sorted(ends) for name, (_, ends) in reversed(documents.items())}, context=9)
    order_of_one, order_of_other = (_ordered(rows, seed, pass_number) for rows in (one, other))
    shared = set(order_of_one) & set(order_of_other)
    assert [row for row in order_of_one if row in shared] == [row for row in order_of_other if row in shared]
    assert sorted(order_of_one) == sorted(zip(one["document"], one["end"], strict=True))  # a permutation


def test_the_order_differs_by_seed_and_pass() -> None:
    rows = rows_of_text(1000)
    orders = [stream_order(rows, seed, number).tolist() for seed, number in ((0, 0), (0, 1), (1, 0), (1, 1), (10, 0))]
    assert len({tuple(order) for order in orders}) == len(orders)
    for one, other in itertools.pairwise(orders):
        assert abs(np.corrcoef(np.argsort(one), np.argsort(other))[0, 1]) < 0.1  # 3 standard errors
    assert orders[0] == stream_order(rows, 0, 0).tolist()


def _without_offsets(n: int) -> pd.DataFrame:
    return rows_of_text(n).assign(end=pd.array([None] * n, dtype="Int64"))


@pytest.mark.parametrize("make", [rows_of_text, bare_rows, _without_offsets])
def test_the_order_is_as_uniform_as_a_random_one(make: object) -> None:
    n = 8192
    order = stream_order(make(n), seed=3, pass_number=1).numpy()  # type: ignore[operator]
    assert sorted(order) == list(range(n))
    # Every sixteenth of the rows is spread evenly over every sixteenth of the stream: a chi-squared test.
    counts = np.histogram2d(order, np.arange(n), bins=16)[0]
    chi_squared = ((counts - 32) ** 2 / 32).sum()
    assert abs(chi_squared - 225) < 5 * np.sqrt(2 * 225)
    # Neighbours in the text are not neighbours in the stream: in a random order 2 pairs in n are.
    assert (np.abs(np.diff(order)) == 1).sum() < 12


def test_tokens_that_end_at_one_character_stay_in_their_own_order() -> None:
    rows = make_rows({"document": ["a"] * 8, "window": [0] * 8, "position": list(range(8)), "end": [1, 2, 2, 2] * 2})
    order = stream_order(rows, seed=0, pass_number=0).tolist()
    assert [row for row in order if rows["end"][row] == 2] == [1, 2, 3, 5, 6, 7]


def test_the_order_is_the_same_on_every_machine() -> None:
    # Golden: where this changes, raise STAGE_VERSIONS["fit"].
    columns = {"document": ["a", "a", "b", "b"] * 2, "window": [0] * 8, "position": [1, 2] * 4}
    rows = make_rows(columns | {"end": [3, 5, 3, 5, 7, 9, 7, 9]})
    assert stream_order(rows, seed=0, pass_number=0).tolist() == [1, 3, 0, 5, 4, 6, 2, 7]
    assert stream_order(rows, seed=0, pass_number=1).tolist() == [2, 5, 3, 4, 0, 1, 6, 7]
    assert stream_order(rows, seed=7, pass_number=0).tolist() == [1, 2, 7, 4, 6, 3, 0, 5]


@pytest.mark.parametrize("block_rows", [1, 7, 4096])
def test_blocks_hold_the_kept_rows_in_stream_order(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BLOCK_ROWS", block_rows)
    x = torch.randn(60, 3)
    stream = stream_of(x)
    kept = activations.Stream(stream.activations, torch.arange(60)[::2], seed=5)
    blocks = list(kept.blocks(1))
    assert all(torch.equal(rows, x[index]) for rows, index in blocks)
    index = torch.cat([index for _, index in blocks]).tolist()
    # Leaving rows out leaves the order of the others as it was.
    whole = stream_order(stream.activations.rows, 5, 1).tolist()
    assert index == [row for row in whole if row % 2 == 0]


@pytest.mark.parametrize("within", [None, 100])
def test_a_stream_keeps_nothing_of_its_orders(within: int | None) -> None:
    """Orders of millions of rows, for each seed of a site, would take more than all that is known of the rows."""
    n = 20_000
    rows = make_rows({"document": np.arange(n) // 100, "window": np.zeros(n), "position": np.arange(n) % 100})
    stream = dataclasses.replace(stream_of(torch.empty(n, 1), rows), shuffle_characters=within)
    stream.order(0)
    tracemalloc.start()
    for pass_number in range(1, 4):
        stream.order(pass_number)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < n and vars(stream).keys() == {field.name for field in dataclasses.fields(stream)}


def test_rows_that_are_shuffled_among_their_neighbours_move_back_by_so_many_characters() -> None:
    rows = rows_of_text(2000)  # of documents of 150 characters
    stream = activations.Stream(activations.TensorActivations(torch.zeros(2000, 1), rows), torch.arange(2000), 3)
    near = dataclasses.replace(stream, shuffle_characters=900)
    orders = [near.order(number) for number in (0, 1)]
    assert not torch.equal(*orders)
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(2000))
        ends = 3 * order + 3  # all rows are as long as each other
        behind = ends.cummax(0).values - ends
        assert 600 < behind.max() < 900
    assert torch.equal(dataclasses.replace(stream, shuffle_characters=10**12).order(0)[:9], stream.order(0)[:9])


def test_models_see_the_rows_they_share_in_one_order_if_these_are_shuffled_among_neighbours() -> None:
    rows = rows_of_text(900)
    is_shared = (np.arange(900) % 3 != 1) | (np.arange(900) % 50 == 49)  # all ends of documents are
    fewer = rows[is_shared].reset_index(drop=True)
    orders = []
    for table in (rows, fewer):
        made = activations.TensorActivations(torch.zeros(len(table), 1), table)
        order = activations.Stream(made, torch.arange(len(table)), 3, shuffle_characters=900).order(0).numpy()
        orders.append(table.iloc[order][["document", "end"]])
    shared = orders[0].merge(orders[1], how="inner")
    pd.testing.assert_frame_equal(shared, orders[1].reset_index(drop=True))
