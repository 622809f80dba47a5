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

from harness.plugins.methods.cuda.compilation import kernel, launch
from harness.plugins.methods.cuda.sparse_largest import kth_of_row, ordered
from harness.plugins.methods.cuda.sparse_pieces import BLOCK, column_block, warps
from harness.plugins.methods.rounding import RELATIVE

_TILE = 2048
SAFE_RELATIVE = RELATIVE * (1 + 2.0**-10)
"""The relative part of the bound, with room for the rounding of the bound itself."""


class Bound(NamedTuple):
    """The parts of the error of pre-activations in bfloat16 that do not grow with their values."""

    norms: Float[Tensor, " b"]
    growths: Float[Tensor, " m"]
    constant: Float[Tensor, ""]


@kernel()
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


@kernel()
def _limits(
    pre: tl.tensor,
    growths: tl.tensor,
    norm: tl.tensor,
    offset: tl.tensor,
    last: tl.tensor,
    start: tl.tensor,
    m: tl.tensor,
    RELATIVE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """The least and the most that some pre-activations of a row can be in float32, and whether each is among the k
    largest in bfloat16.
    """
    column = start + tl.arange(0, BLOCK)
    inside = column < m
    rough = tl.load(pre + column, mask=inside, other=0.0)
    number = rough.to(tl.float32)
    bound = norm * tl.load(growths + column, mask=inside, other=0.0) + offset + RELATIVE * tl.abs(number)
    return number - bound, number + bound, inside & (ordered(rough, 15) >= last)


@kernel()
def _candidates(
    pre: tl.tensor,
    norms: tl.tensor,
    growths: tl.tensor,
    constant: tl.tensor,
    candidates: tl.tensor,
    uppers: tl.tensor,
    counts: tl.tensor,
    m: tl.tensor,
    k: tl.tensor,
    most: tl.tensor,
    RELATIVE: tl.constexpr,
    M: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The latents of one row that may be among its k largest, in ascending order, and what they are at most; infinity
    for the k largest in bfloat16 and for what has no bound.
    """
    row = tl.program_id(0).to(tl.int64)
    last = kth_of_row(pre + row * m, m, k, 15, M)
    norm = tl.load(norms + row)
    offset = tl.load(constant)
    lowest = tl.full([BLOCK], float("inf"), tl.float32)
    for start in range(0, m, BLOCK):
        lower, upper, is_top = _limits(pre + row * m, growths, norm, offset, last, start, m, RELATIVE, BLOCK)
        lowest = tl.minimum(lowest, tl.where(is_top & (lower == lower), lower, float("inf")))
    # The k-th largest in float32 is no smaller. What is NaN counts as the largest, and compares as nothing.
    least = tl.min(lowest, 0)
    n = 0
    for start in range(0, m, BLOCK):
        lower, upper, is_top = _limits(pre + row * m, growths, norm, offset, last, start, m, RELATIVE, BLOCK)
        column = start + tl.arange(0, BLOCK)
        may_be = (column < m) & ((upper < least) == 0)
        place = n + tl.cumsum(may_be.to(tl.int32), 0) - 1
        is_kept = may_be & (place < most)
        tl.store(candidates + row * most + place, column, mask=is_kept)
        upper = tl.where(is_top | (upper != upper), float("inf"), upper)
        tl.store(uppers + row * most + place, upper, mask=is_kept)
        n += tl.sum(may_be.to(tl.int32), 0)
    tl.store(counts + row, n)


@kernel()
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


@kernel()
def _refine(
    y: tl.tensor,
    encoder: tl.tensor,
    bias: tl.tensor,
    candidates: tl.tensor,
    uppers: tl.tensor,
    counts: tl.tensor,
    values: tl.tensor,
    d: tl.tensor,
    most: tl.tensor,
    N: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The pre-activations in float32 of one row's candidates: first of those that are the k largest in bfloat16, then
    of the others that may still be larger than one of these; -inf for the rest.
    """
    row = tl.program_id(0).to(tl.int64)
    n = tl.minimum(tl.load(counts + row), most)
    least = tl.full([N], float("inf"), tl.float32)
    for start in range(0, n, N):
        place = row * most + start + tl.arange(0, N)
        within = start + tl.arange(0, N) < n
        latent = tl.load(candidates + place, mask=within, other=0).to(tl.int64)
        wanted = within & (tl.load(uppers + place, mask=within, other=0.0) == float("inf"))
        value = _dots(y + row * d, encoder, latent, wanted, d, N, COLUMNS) + tl.load(bias + latent)
        tl.store(values + place, value, mask=wanted)
        least = tl.minimum(least, tl.where(wanted & (value == value), value, float("inf")))
    floor = tl.min(least, 0)
    for start in range(0, n, N):
        place = row * most + start + tl.arange(0, N)
        within = start + tl.arange(0, N) < n
        upper = tl.load(uppers + place, mask=within, other=float("inf"))
        wanted = (upper < float("inf")) & (upper >= floor)
        value = tl.full([N], float("-inf"), tl.float32)
        if tl.sum(wanted.to(tl.int32), 0) > 0:
            latent = tl.load(candidates + place, mask=within, other=0).to(tl.int64)
            dots = _dots(y + row * d, encoder, latent, wanted, d, N, COLUMNS) + tl.load(bias + latent)
            value = tl.where(wanted, dots, value)
        tl.store(values + place, value, mask=upper < float("inf"))


@kernel()
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
    uppers, values = y.new_empty(candidates.shape), y.new_empty(candidates.shape)
    size, columns, most = triton.next_power_of_2(m), column_block(d), candidates.shape[1]
    constants = {"RELATIVE": SAFE_RELATIVE, "M": size, "BLOCK": min(size, BLOCK), "num_warps": warps(size)}
    launch(_candidates, (b,), pre, *bound, candidates, uppers, counts, m, k, most, **constants)
    constants = {"N": _TILE // columns, "COLUMNS": columns}
    launch(_refine, (b,), y, encoder, bias, candidates, uppers, counts, values, d, most, **constants)
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
