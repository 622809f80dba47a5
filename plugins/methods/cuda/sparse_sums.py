"""Weighted sums of rows of a table, and products of chosen pairs of rows, as Triton kernels.

Each number is the work of one program that adds in a fixed order: the same bits each time, however the card schedules.
Sums are float32's; with n terms they are within n·2⁻²⁴ of the sum of magnitudes.
"""

from __future__ import annotations

import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.methods.cuda.compilation import kernel, launch
from harness.plugins.methods.cuda.sparse_pieces import column_block

_TILE = 2048
"""Numbers that a program holds at once: several loads of 16 bytes for each thread, under way together."""


@kernel()
def _weighted_sums(
    table: tl.tensor,
    which: tl.tensor,
    weights: tl.tensor,
    starts: tl.tensor,
    sums: tl.tensor,
    d: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The sum of one group in one block of columns. All groups of a block come before the next block's, so that what
    is read of the table at a time fits the second cache.
    """
    group = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < d
    first = tl.load(starts + group)
    last = tl.load(starts + group + 1)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for at in range(first, last, ROWS):
        place = at + tl.arange(0, ROWS)
        within = place < last
        row = tl.load(which + place, mask=within, other=0).to(tl.int64)
        weight = tl.load(weights + place, mask=within, other=0.0)
        mask = within[:, None] & inside[None, :]
        total += weight[:, None] * tl.load(table + row[:, None] * d + column[None, :], mask=mask, other=0.0)
    tl.store(sums + group * d + column, tl.sum(total, 0), mask=inside)


@kernel()
def _totals(values: tl.tensor, starts: tl.tensor, sums: tl.tensor, BLOCK: tl.constexpr) -> None:
    group = tl.program_id(0).to(tl.int64)
    first = tl.load(starts + group)
    last = tl.load(starts + group + 1)
    total = tl.zeros([BLOCK], tl.float32)
    for at in range(first, last, BLOCK):
        place = at + tl.arange(0, BLOCK)
        total += tl.load(values + place, mask=place < last, other=0.0)
    tl.store(sums + group, tl.sum(total, 0))


@kernel()
def _products(
    x: tl.tensor,
    table: tl.tensor,
    rows: tl.tensor,
    others: tl.tensor,
    found: tl.tensor,
    e: tl.tensor,
    d: tl.tensor,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    place = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    within = place < e
    row = tl.load(rows + place, mask=within, other=0).to(tl.int64)
    other = tl.load(others + place, mask=within, other=0).to(tl.int64)
    total = tl.zeros([PAIRS, COLUMNS], tl.float32)
    for start in range(0, d, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        mask = within[:, None] & (column < d)[None, :]
        one = tl.load(x + row[:, None] * d + column[None, :], mask=mask, other=0.0)
        total += one * tl.load(table + other[:, None] * d + column[None, :], mask=mask, other=0.0)
    tl.store(found + place, tl.sum(total, 1), mask=within)


def weighted_sums(
    table: Float[Tensor, "m d"], which: Int[Tensor, " e"], weights: Float[Tensor, " e"], starts: Int[Tensor, " g+1"]
) -> Float[Tensor, "g d"]:
    """Σ weights · table[which] over the places of each group: from its start to the next one's."""
    n_groups, d = len(starts) - 1, table.shape[1]
    sums = table.new_empty(n_groups, d)
    columns = column_block(d)
    grid = n_groups, triton.cdiv(d, columns)
    launch(_weighted_sums, grid, table, which, weights, starts, sums, d, ROWS=_TILE // columns, COLUMNS=columns)
    return sums


def totals(values: Float[Tensor, " e"], starts: Int[Tensor, " g+1"]) -> Float[Tensor, " g"]:
    """The sum of the values of each group."""
    sums = values.new_empty(len(starts) - 1)
    launch(_totals, (len(sums),), values, starts, sums, BLOCK=128, num_warps=1)
    return sums


def products(
    x: Float[Tensor, "n d"], table: Float[Tensor, "m d"], rows: Int[Tensor, " e"], others: Int[Tensor, " e"]
) -> Float[Tensor, " e"]:
    """x[row] · table[other] for each pair; fastest where pairs of one row follow each other."""
    found, d = x.new_empty(len(rows)), x.shape[1]
    columns = column_block(d)
    pairs = _TILE // columns
    grid = (triton.cdiv(len(found), pairs),)
    launch(_products, grid, x, table, rows, others, found, len(found), d, PAIRS=pairs, COLUMNS=columns)
    return found
