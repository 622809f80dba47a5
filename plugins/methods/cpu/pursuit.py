"""Matching pursuit of float32 rows on a CPU, compiled by numba: all steps of a row before the next row's.

In each step torch takes six passes through the m correlations of every row, and a dozen calls. Here a row's
correlations stay in the first cache, of each step only one row of the Gram matrix is read, and the picks are those of
torch's steps: what is within the margin of doubt is decided in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.plugins.methods.cpu.compilation import compiled, dot, in_parts
from harness.plugins.methods.pursued_rows import Limits, PursuedRows

_GROUP = 64
_MATRIX, _ROW, _LIMITS = "f4[:, ::1]", "f4[::1]", "UniTuple(f4, 3)"
# Fewer rows are done before another thread has started.
_ROWS_PER_THREAD = 16


def pursue(
    rows: PursuedRows,
    correlate: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b m"]],
    atoms: Float[Tensor, "m d"],
    gram: Float[Tensor, "c w"],
    limits: Limits,
    non_negative: bool,
) -> Int[Tensor, " r"]:
    """Fill in the rows' values, indices and error, on as many threads as torch has; none is left, so none is returned.

    `correlate` gives residual · atomsᵀ; the Gram matrix may have room for more than m atoms.
    """
    correlations = correlate(rows.residual)
    tensors = (rows.residual, correlations, atoms, gram, rows.values, rows.indices, rows.error)
    arrays = [tensor.numpy() for tensor in tensors]
    numbers = tuple(map(np.float32, limits))
    in_parts(lambda *part: _pursue(*arrays, numbers, non_negative, *part), len(rows.residual), _ROWS_PER_THREAD)
    return torch.empty(0, dtype=torch.long)


def judge(
    atoms: Float[Tensor, "c d"], gram: Float[Tensor, "c w"], places: range, k: int, limits: Limits, non_negative: bool
) -> Bool[Tensor, " p"]:
    """True for each of the atoms at these places whose error is above the tolerance after k steps with the atoms before
    it; of those at these places, it may take only the ones whose own error is above it.
    """
    is_above = np.zeros(len(places), np.bool_)
    numbers = tuple(map(np.float32, limits))
    _judge(atoms.numpy(), gram.numpy(), places.start, k, numbers, non_negative, is_above)
    return torch.from_numpy(is_above)


# In a function of its own: within the loop over rows LLVM takes one number at a time.
@compiled("(f4[::1], f4, f4[::1])")
def _subtract(row: Any, coefficient: Any, other: Any) -> None:
    for j in range(len(row)):
        row[j] -= coefficient * other[j]


@compiled("(i4[::1], i4, i4[::1])")
def _group_maxima(bits: Any, mask: Any, maxima: Any) -> None:
    m = len(bits)
    for group in range(m // _GROUP):
        largest = np.int32(0)
        for j in range(_GROUP):
            strength = bits[group * _GROUP + j] & mask
            largest = strength if strength > largest else largest
        maxima[group] = largest
    if m % _GROUP:
        largest = np.int32(0)
        for j in range(m - m % _GROUP, m):
            strength = bits[j] & mask
            largest = strength if strength > largest else largest
        maxima[-1] = largest


@compiled(f"i8(i4[::1], i4, i4[::1], f4, {_ROW}, {_MATRIX}, b1)")
def _strongest(bits: Any, mask: Any, maxima: Any, margin: Any, residual: Any, atoms: Any, non_negative: Any) -> int:
    """The first place of the largest strength; where others come within the margin, of the largest in float64. Of
    strengths of 0, which barred atoms have, the first.
    """
    _group_maxima(bits, mask, maxima)
    best = 0
    for group in range(len(maxima)):
        if maxima[group] > maxima[best]:
            best = group
    pick = best * _GROUP
    while pick + 1 < min((best + 1) * _GROUP, len(bits)) and bits[pick] & mask != maxima[best]:
        pick += 1
    least = np.empty(1, np.float32)
    least.view(np.int32)[0] = maxima[best]
    least[0] = max(least[0] - margin, np.float32(0))
    within = max(least.view(np.int32)[0], np.int32(1))
    n_close = 0
    for group in range(len(maxima)):
        if maxima[group] >= within:
            for j in range(group * _GROUP, min((group + 1) * _GROUP, len(bits))):
                n_close += bits[j] & mask >= within
    if n_close < 2:
        return pick
    largest = -2.0
    for j in range(len(bits)):
        if bits[j] & mask >= within:
            exact = 0.0
            for i in range(len(residual)):
                exact += np.float64(residual[i]) * np.float64(atoms[j, i])
            exact = exact if non_negative else abs(exact)
            if exact > largest:
                pick, largest = j, exact
    return pick


@compiled(f"f4({_ROW}, {_ROW}, i8[::1], {_MATRIX}, {_MATRIX}, {_ROW}, i8[::1], f4, {_LIMITS}, b1)")
def _pursue_row(
    residual: Any,
    row: Any,
    barred: Any,
    atoms: Any,
    gram: Any,
    values: Any,
    indices: Any,
    error: Any,
    limits: Any,
    non_negative: Any,
) -> Any:
    """The error after the last step. `residual` and `row`, its correlations with the first m atoms, are overwritten;
    the atoms at the places `barred` may not be taken.
    """
    m, k = len(row), len(values)
    tolerance, margin, least = limits
    # Floats from 0 up are ordered as the integers of the same bits are, of which LLVM compares many at once. The mask
    # leaves a number's strength: all but its sign, or all.
    mask = np.int32(-1) if non_negative else np.int32(0x7FFFFFFF)
    maxima = np.empty(-(-m // _GROUP), np.int32)
    for step in range(k):
        if not error > tolerance:  # it may be NaN
            break
        for j in barred:
            row[j] = 0
        pick = _strongest(row.view(np.int32), mask, maxima, margin, residual, atoms, non_negative)
        if non_negative and row[pick] <= least:
            break
        coefficient = dot(residual, atoms[pick])
        _subtract(residual, coefficient, atoms[pick])
        values[step] = coefficient
        indices[step] = pick
        error = dot(residual, residual)
        if step + 1 < k:
            _subtract(row, coefficient, gram[pick, :m])
    return error


@compiled(
    f"({_MATRIX}, {_MATRIX}, {_MATRIX}, {_MATRIX}, {_MATRIX}, i8[:, ::1], {_ROW}, {_LIMITS}, b1, i8, i8)",
)
def _pursue(
    unit: Any,
    correlations: Any,
    atoms: Any,
    gram: Any,
    values: Any,
    indices: Any,
    error: Any,
    limits: Any,
    non_negative: Any,
    start: Any,
    end: Any,
) -> None:
    """Pursue the rows from start to end."""
    none = np.empty(0, np.int64)
    for place in range(start, end):
        residual = unit[place].copy()
        outcome = values[place], indices[place], error[place]
        error[place] = _pursue_row(residual, correlations[place], none, atoms, gram, *outcome, limits, non_negative)


@compiled(f"({_MATRIX}, {_MATRIX}, i8, i8, {_LIMITS}, b1, b1[::1])")
def _judge(
    atoms: Any,
    gram: Any,
    first: Any,
    k: Any,
    limits: Any,
    non_negative: Any,
    is_above: Any,
) -> None:
    """Judge one atom after the other, from the first place on. Its correlations are its row of the Gram matrix."""
    values, indices = np.empty(k, np.float32), np.empty(k, np.int64)
    barred, n_barred = np.empty(len(is_above), np.int64), 0
    for i in range(len(is_above)):
        place = first + i
        residual, row = atoms[place].copy(), gram[place, :place].copy()
        outcome = values, indices, np.float32(1)
        error = _pursue_row(residual, row, barred[:n_barred], atoms, gram, *outcome, limits, non_negative)
        is_above[i] = error > limits[0]
        if not is_above[i]:
            barred[n_barred] = place
            n_barred += 1
