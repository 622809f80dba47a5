"""The k largest numbers of each row, found by bisection over their bits while the row stays in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.methods.cuda.compilation import kernel, launch
from harness.plugins.methods.cuda.sparse_pieces import BLOCK, warps

MOST_NUMBERS = 2**15
"""Longest row that the registers of one program hold."""
BITS = {torch.float32: 31, torch.bfloat16: 15}
"""The bits of a number besides its sign."""


@kernel()
def ordered(numbers: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """Integers in the order of the numbers: NaN is the largest, and the two zeros are equal."""
    MOST: tl.constexpr = (1 << BITS) - 1
    INFINITY: tl.constexpr = 0x7F80 << (BITS - 15)
    if BITS == 15:
        bits = numbers.to(tl.int16, bitcast=True).to(tl.int32)
    else:
        bits = numbers.to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, bits ^ MOST, bits)
    key = tl.where(key == -1, 0, key)
    return tl.where((bits & MOST) > INFINITY, MOST, key)


@kernel()
def kth_largest(key: tl.tensor, k: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """The k-th largest of the keys."""
    least = tl.where(tl.sum((key >= 0).to(tl.int32), 0) >= k, 0, -(1 << BITS))
    for bit in tl.static_range(BITS):
        trial = least | (1 << (BITS - 1 - bit))
        n = tl.sum((key >= trial).to(tl.int32), 0)
        least = tl.where(n >= k, trial, least)
    return least


@kernel()
def among_largest(key: tl.tensor, k: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """True for the k largest keys; of equal ones the first count as larger."""
    least = kth_largest(key, k, BITS)
    above = key > least
    equal = key == least
    n_missing = k - tl.sum(above.to(tl.int32), 0)
    return above | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= n_missing))


@kernel()
def kth_of_row(row: tl.tensor, m: tl.tensor, k: tl.tensor, BITS: tl.constexpr, M: tl.constexpr) -> tl.tensor:
    """The key of the k-th largest of m numbers in memory."""
    column = tl.arange(0, M)
    inside = column < m
    key = ordered(tl.load(row + column, mask=inside, other=0.0), BITS)
    return kth_largest(tl.where(inside, key, -(1 << BITS)), k, BITS)  # below all numbers


@kernel()
def _largest(
    x: tl.tensor,
    starts: tl.tensor,
    places: tl.tensor,
    m: tl.tensor,
    BITS: tl.constexpr,
    M: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    first = tl.load(starts + row)
    k = (tl.load(starts + row + 1) - first).to(tl.int32)
    last = kth_of_row(x + row * m, m, k, BITS, M)
    n_above = 0
    for start in range(0, m, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < m
        key = ordered(tl.load(x + row * m + column, mask=inside, other=0.0), BITS)
        n_above += tl.sum((inside & (key > last)).to(tl.int32), 0)
    n_missing = k - n_above
    n = 0
    for start in range(0, m, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < m
        key = ordered(tl.load(x + row * m + column, mask=inside, other=0.0), BITS)
        equal = (inside & (key == last)).to(tl.int32)
        chosen = (inside & (key > last)) | ((equal > 0) & (tl.cumsum(equal, 0) <= n_missing))
        rank = n + tl.cumsum(chosen.to(tl.int32), 0) - 1
        tl.store(places + first + rank, column.to(tl.int64), mask=chosen)
        n_missing -= tl.sum(equal, 0)
        n += tl.sum(chosen.to(tl.int32), 0)


@kernel()
def _keep(
    values: tl.tensor,
    labels: tl.tensor,
    counts: tl.tensor,
    kept: tl.tensor,
    kept_labels: tl.tensor,
    c: tl.tensor,
    k: tl.tensor,
    C: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, C)
    inside = column < tl.load(counts + row)
    value = tl.load(values + row * c + column, mask=inside, other=0.0)
    key = tl.where(inside, ordered(value, 31), -(1 << 31))
    chosen = among_largest(key, k, 31) & inside
    rank = tl.cumsum(chosen.to(tl.int32), 0) - 1
    label = tl.load(labels + row * c + column, mask=inside, other=0).to(tl.int64)
    tl.store(kept + row * k + rank, value, mask=chosen)
    tl.store(kept_labels + row * k + rank, label, mask=chosen)


def largest_places(x: Float[Tensor, "b m"], k: int) -> Int[Tensor, "b k"]:
    """Places of the k largest numbers of each row, in ascending order; of equal ones the first. NaN is the largest."""
    starts = torch.arange(0, (len(x) + 1) * k, k, device=x.device)
    return _largest_places(x, starts, len(x) * k).view(len(x), k)


def largest_places_of_each(x: Float[Tensor, "b m"], n_kept: Int[Tensor, " b"]) -> Int[Tensor, " e"]:
    """Places of the largest numbers, row after row, of as many as each row keeps."""
    starts = torch.nn.functional.pad(n_kept.cumsum(0), (1, 0))
    return _largest_places(x, starts, int(starts[-1]))


def _largest_places(x: Float[Tensor, "b m"], starts: Int[Tensor, " b+1"], n: int) -> Int[Tensor, " n"]:
    places = torch.empty(n, dtype=torch.long, device=x.device)
    size = triton.next_power_of_2(x.shape[1])
    constants = {"BITS": BITS[x.dtype], "M": size, "BLOCK": min(size, BLOCK), "num_warps": warps(size)}
    launch(_largest, (len(x),), x, starts, places, x.shape[1], **constants)
    return places


def keep_largest(
    values: Float[Tensor, "b c"], labels: Int[Tensor, "b c"], counts: Int[Tensor, " b"], k: int
) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
    """The k largest of the first values of each row, of as many as `counts` says, and their labels, in the order in
    which they come. What is left of a row with fewer than k is undefined.
    """
    n_rows, size = values.shape
    kept = values.new_empty(n_rows, k)
    kept_labels = torch.empty(n_rows, k, dtype=torch.long, device=values.device)
    block = triton.next_power_of_2(size)
    tensors = values, labels, counts, kept, kept_labels
    launch(_keep, (n_rows,), *tensors, size, k, C=block, num_warps=max(1, min(4, block // 128)))
    return kept, kept_labels
