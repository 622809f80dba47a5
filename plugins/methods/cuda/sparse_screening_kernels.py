"""The loops over rows of `sparse_screening.py`, which has the bound that they go by.

The error of a pre-activation in bfloat16, p, is at most norm·growth + constant + RELATIVE·|p|, with the norm of its
row and the growth of its latent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.methods.cuda.sparse_largest import kth_largest, ordered
from harness.plugins.methods.cuda.sparse_launching import column_block, kernel, launch, warps
from harness.plugins.methods.rounding import RELATIVE

_TILE = 2048
SAFE_RELATIVE = RELATIVE * (1 + 2.0**-10)
"""The relative part of the bound, with room for the rounding of the bound itself."""


class Bound(NamedTuple):
    """The parts of the error of pre-activations in bfloat16 that do not grow with their values."""

    norms: Float[Tensor, " b"]
    growths: Float[Tensor, " m"]
    constant: Float[Tensor, ""]


@kernel
def _round(
    x: tl.tensor,
    half: tl.tensor,
    norms: tl.tensor,
    lost: tl.tensor,
    n: tl.tensor,
    d: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    squares = tl.zeros([ROWS, COLUMNS], tl.float32)
    lost_squares = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, d, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = (row < n)[:, None] & (column < d)[None, :]
        number = tl.load(x + row[:, None] * d + column[None, :], mask=inside, other=0.0)
        rounded = number.to(tl.bfloat16)
        tl.store(half + row[:, None] * d + column[None, :], rounded, mask=inside)
        rest = number - rounded.to(tl.float32)
        squares += number * number
        lost_squares += rest * rest
    tl.store(norms + row, tl.sqrt(tl.sum(squares, 1)), mask=row < n)
    tl.store(lost + row, tl.sqrt(tl.sum(lost_squares, 1)), mask=row < n)


@kernel
def _candidates(
    pre: tl.tensor,
    norms: tl.tensor,
    growths: tl.tensor,
    constant: tl.tensor,
    candidates: tl.tensor,
    counts: tl.tensor,
    cuts: tl.tensor,
    m: tl.tensor,
    k: tl.tensor,
    most: tl.tensor,
    RELATIVE: tl.constexpr,
    M: tl.constexpr,
) -> None:
    """The latents of one row that may be among its k largest, in ascending order."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, M)
    inside = column < m
    rough = tl.load(pre + row * m + column, mask=inside, other=0.0)
    key = tl.where(inside, ordered(rough, 15), -(1 << 15))
    is_top = key >= kth_largest(key, k, 15)
    number = rough.to(tl.float32)
    growth = tl.load(growths + column, mask=inside, other=0.0)
    bound = tl.load(norms + row) * growth + tl.load(constant) + RELATIVE * tl.abs(number)
    low = number - bound
    # The k-th largest in float32 is no smaller. What is NaN counts as the largest, and compares as nothing.
    least = tl.min(tl.where(is_top & (low == low), low, float("inf")), 0)
    may_be = inside & ((number + bound < least) == 0)
    rank = tl.cumsum(may_be.to(tl.int32), 0) - 1
    tl.store(candidates + row * most + rank, column, mask=may_be & (rank < most))
    tl.store(counts + row, tl.sum(may_be.to(tl.int32), 0))
    tl.store(cuts + row, tl.min(tl.where(is_top & (number == number), number, float("inf")), 0))


@kernel
def _dots(
    y: tl.tensor,
    encoder: tl.tensor,
    latent: tl.tensor,
    wanted: tl.tensor,
    d: tl.tensor,
    N: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> tl.tensor:
    """The products of one row with N latents, of those wanted."""
    total = tl.zeros([N, COLUMNS], tl.float32)
    for start in range(0, d, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = column < d
        number = tl.load(y + column, mask=inside, other=0.0)
        mask = wanted[:, None] & inside[None, :]
        total += number[None, :] * tl.load(encoder + latent[:, None] * d + column[None, :], mask=mask, other=0.0)
    return tl.sum(total, 1)


@kernel
def _refine(
    y: tl.tensor,
    encoder: tl.tensor,
    bias: tl.tensor,
    pre: tl.tensor,
    norms: tl.tensor,
    growths: tl.tensor,
    constant: tl.tensor,
    candidates: tl.tensor,
    counts: tl.tensor,
    cuts: tl.tensor,
    values: tl.tensor,
    m: tl.tensor,
    d: tl.tensor,
    most: tl.tensor,
    RELATIVE: tl.constexpr,
    N: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The pre-activations in float32 of one row's candidates: first of those that are the k largest in bfloat16, then
    of the others that may still be larger than one of these; -inf for the rest.
    """
    row = tl.program_id(0).to(tl.int64)
    n = tl.minimum(tl.load(counts + row), most)
    cut = tl.load(cuts + row)
    norm = tl.load(norms + row)
    offset = tl.load(constant)
    least = tl.full([N], float("inf"), tl.float32)
    for start in range(0, n, N):
        place = start + tl.arange(0, N)
        within = place < n
        latent = tl.load(candidates + row * most + place, mask=within, other=0).to(tl.int64)
        number = tl.load(pre + row * m + latent, mask=within, other=float("-inf")).to(tl.float32)
        wanted = within & ((number < cut) == 0)
        value = _dots(y + row * d, encoder, latent, wanted, d, N, COLUMNS) + tl.load(bias + latent)
        tl.store(values + row * most + place, value, mask=wanted)
        least = tl.minimum(least, tl.where(wanted & (value == value), value, float("inf")))
    floor = tl.min(least, 0)
    for start in range(0, n, N):
        place = start + tl.arange(0, N)
        within = place < n
        latent = tl.load(candidates + row * most + place, mask=within, other=0).to(tl.int64)
        number = tl.load(pre + row * m + latent, mask=within, other=float("-inf")).to(tl.float32)
        bound = norm * tl.load(growths + latent) + offset + RELATIVE * tl.abs(number)
        other = within & (number < cut)
        wanted = other & (number + bound >= floor)
        if tl.sum(wanted.to(tl.int32), 0) > 0:
            value = _dots(y + row * d, encoder, latent, wanted, d, N, COLUMNS) + tl.load(bias + latent)
            tl.store(values + row * most + place, tl.where(wanted, value, float("-inf")), mask=other)
        else:
            tl.store(values + row * most + place, tl.full([N], float("-inf"), tl.float32), mask=other)


@kernel
def _mark(
    pre: tl.tensor,
    norms: tl.tensor,
    growths: tl.tensor,
    constant: tl.tensor,
    lower: tl.tensor,
    upper: tl.tensor,
    marks: tl.tensor,
    m: tl.tensor,
    RELATIVE: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < m
    number = tl.load(pre + row * m + column, mask=inside, other=0.0).to(tl.float32)
    growth = tl.load(growths + column, mask=inside, other=0.0)
    bound = tl.load(norms + row) * growth + tl.load(constant) + RELATIVE * tl.abs(number)
    is_above = number + bound > tl.load(lower + column, mask=inside, other=0.0)
    is_below = number - bound < tl.load(upper + column, mask=inside, other=0.0)
    tl.store(marks + row * m + column, (is_above & is_below).to(tl.int8), mask=inside)


def rounded(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The rows in bfloat16, their norms, and the norms of what rounding took from them."""
    half, norms, lost = torch.empty_like(x, dtype=torch.bfloat16), x.new_empty(len(x)), x.new_empty(len(x))
    columns = column_block(x.shape[1])
    grid = (triton.cdiv(len(x), _TILE // columns),)
    launch(_round, grid, x, half, norms, lost, *x.shape, ROWS=_TILE // columns, COLUMNS=columns)
    return half, norms, lost


def candidates_in_float32(
    y: Float[Tensor, "b d"],
    encoder: Float[Tensor, "m d"],
    bias: Float[Tensor, " m"],
    pre: Float[Tensor, "b m"],
    bound: Bound,
    k: int,
    most: int,
) -> tuple[Int[Tensor, "b c"], Int[Tensor, " b"], Float[Tensor, "b c"]]:
    """The latents of each row that may be among its k largest, in ascending order, up to `most` of them; how many there
    would be; and their pre-activations in float32, or -inf of those that turned out to be smaller than k others.
    """
    (b, m), d = pre.shape, y.shape[1]
    candidates = torch.empty(b, min(most, m), dtype=torch.int32, device=y.device)
    counts = torch.empty(b, dtype=torch.int32, device=y.device)
    cuts, values = y.new_empty(b), y.new_empty(candidates.shape)
    size, columns, most = triton.next_power_of_2(m), column_block(d), candidates.shape[1]
    constants = {"RELATIVE": SAFE_RELATIVE, "M": size, "num_warps": warps(size)}
    launch(_candidates, (b,), pre, *bound, candidates, counts, cuts, m, k, most, **constants)
    found = candidates, counts, cuts, values
    constants = {"RELATIVE": SAFE_RELATIVE, "N": _TILE // columns, "COLUMNS": columns}
    launch(_refine, (b,), y, encoder, bias, pre, *bound, *found, m, d, most, **constants)
    return candidates, counts, values


def marks(
    pre: Float[Tensor, "b m"], bound: Bound, lower: Float[Tensor, " m"], upper: Float[Tensor, " m"]
) -> Int[Tensor, "b m"]:
    """1 where the pre-activation in float32 may be above the lower and below the upper limit of its latent; else 0."""
    b, m = pre.shape
    found = torch.empty(b, m, dtype=torch.int8, device=pre.device)
    limits = lower.contiguous(), upper.contiguous()
    block = min(1024, triton.next_power_of_2(m))
    constants = {"RELATIVE": SAFE_RELATIVE, "COLUMNS": block}
    launch(_mark, (b, triton.cdiv(m, block)), pre, *bound, *limits, found, m, **constants)
    return found
