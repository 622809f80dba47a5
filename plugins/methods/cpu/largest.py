"""The k largest of each row's positive numbers on a CPU, compiled by numba: one pass, where torch sorts as it goes.

The k-th largest of the maxima of groups of 32 numbers is a floor: at least k numbers reach it, and few more do, so that
only these are looked at again. Numbers are compared as the integers of the same bits, whose order is that of floats
from 0 up, and below which all negative ones lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.plugins.methods.cpu.compilation import compiled, in_parts

_GROUP = 32
_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def largest_places(x: Float[Tensor, "b m"], k: int) -> Int[Tensor, "b k"]:
    """Places of the k largest numbers of each row, in ascending order, found on as many threads as torch has.

    Which of equal ones is left open, and which negative ones where fewer than k are above 0.
    """
    return largest_places_of_each(x, torch.full((len(x),), k)).view(len(x), k)


def largest_places_of_each(x: Float[Tensor, "b m"], n_kept: Int[Tensor, " b"]) -> Int[Tensor, " e"]:
    """Places of the largest numbers, row after row, of as many as each row keeps."""
    ends = n_kept.cumsum(0)
    places = torch.empty(int(ends[-1]) if len(x) else 0, dtype=torch.long)
    bits, out, starts = x.view(_BITS[x.dtype]).numpy(), places.numpy(), (ends - n_kept).numpy()
    kept = n_kept.numpy()
    in_parts(lambda *part: _largest_places(bits, out, starts, kept, *part), len(x))
    return places


@compiled("(i2[::1], i2[::1])", "(i4[::1], i4[::1])")
def group_maxima(row: Any, maxima: Any) -> None:
    """Write the maxima of the numbers that lie len(maxima) apart, so that LLVM takes many groups at once."""
    n_groups = len(maxima)
    n_whole = len(row) - len(row) % n_groups
    numbers = row[:n_whole].reshape(-1, n_groups)
    maxima[:] = numbers[0]
    for i in range(1, len(numbers)):
        for group in range(n_groups):
            maxima[group] = max(maxima[group], numbers[i, group])
    for group in range(len(row) - n_whole):
        maxima[group] = max(maxima[group], row[n_whole + group])


@compiled("i8(i2[::1], i8)", "i8(i4[::1], i8)")
def kth_largest(numbers: Any, k: Any) -> Any:
    """Find the k-th largest by bisection, since counting can be vectorised."""
    low, high = np.int64(numbers.min()), np.int64(numbers.max())
    while low < high:
        middle = (low + high + 1) >> 1
        n_above = 0
        for i in range(len(numbers)):
            n_above += numbers[i] >= middle
        if n_above >= k:
            low = middle
        else:
            high = middle - 1
    return low


@compiled(*(f"({bits}[:, ::1], i8[::1], i8[::1], i8[::1], i8, i8)" for bits in ("i2", "i4")))
def _largest_places(bits: Any, places: Any, starts: Any, n_kept: Any, start: Any, end: Any) -> None:
    m = bits.shape[1]
    maxima = np.empty(max(1, m // _GROUP), bits.dtype)
    found, found_at = np.empty(m + 1, bits.dtype), np.empty(m + 1, np.int64)
    for i in range(start, end):
        row, k = bits[i], n_kept[i]
        out = places[starts[i] : starts[i] + k]
        group_maxima(row, maxima)
        floor = kth_largest(maxima, k) if len(maxima) >= k else np.int64(row.min())
        n = 0
        for group in range(len(maxima)):
            if maxima[group] >= floor:
                for j in range(group, m, len(maxima)):
                    found[n], found_at[n] = row[j], j
                    n += row[j] >= floor
        last, n_out = kth_largest(found[:n], k), 0
        for j in range(n):
            out[n_out] = found_at[j]
            n_out += found[j] > last
        for j in range(n):
            if n_out < k and found[j] == last:
                out[n_out] = found_at[j]
                n_out += 1
        out.sort()
