"""Matching pursuit of float32 rows on a CPU, compiled by numba: all steps of a row before the next row's.

In each step torch takes six passes through the m correlations of every row, and a dozen calls. Here a row's
correlations stay in the first cache, of each step only one row of the Gram matrix is read, and the picks are those of
torch's steps: what is within the margin of doubt is decided in float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_GROUP = 64
_MATRIX = "f4[:, ::1]"
# What `_pursue` and `_judge` begin with.
_ARRAYS = f"{_MATRIX}, {_MATRIX}, b1[:, ::1], {_MATRIX}, {_MATRIX}, {_MATRIX}, i8[:, ::1], f4[::1]"
# Fewer rows are done before another thread has started.
_ROWS_PER_THREAD = 16


def pursue(
    unit: Float[Tensor, "b d"],
    correlations: Float[Tensor, "b m"],
    barred: Bool[Tensor, "b p"],
    atoms: Float[Tensor, "c d"],
    gram: Float[Tensor, "c c"],
    values: Float[Tensor, "b k"],
    indices: Int[Tensor, "b k"],
    error: Float[Tensor, " b"],
    *,
    tolerance: float,
    margin: float,
    least: float,
    non_negative: bool,
) -> None:
    """Fill in values, indices and error, on as many threads as torch has.

    `correlations` are unit · atomsᵀ, and are used up; atoms and gram may have room for more than m. A row whose error
    is at `tolerance` or below stops, and, with `non_negative`, one without a correlation above `least`. Correlations
    within `margin` of each other are compared anew.
    """
    tensors = [tensor.numpy() for tensor in (unit, correlations, barred, atoms, gram, values, indices, error)]
    numbers = [np.float32(number) for number in (tolerance, margin, least)]
    n_parts = max(1, min(torch.get_num_threads(), len(unit) // _ROWS_PER_THREAD))
    cuts = [len(unit) * part // n_parts for part in range(n_parts + 1)]
    # Threads that outlive the call would be missing in a process forked later, which would wait for them.
    with ThreadPoolExecutor(n_parts) as threads:
        list(
            threads.map(
                lambda part: _pursue(*tensors, *numbers, non_negative, cuts[part], cuts[part + 1]), range(n_parts)
            )
        )


def judge(
    unit: Float[Tensor, "p d"],
    correlations: Float[Tensor, "p m"],
    atoms: Float[Tensor, "c d"],
    gram: Float[Tensor, "c c"],
    k: int,
    *,
    threshold: float,
    margin: float,
    least: float,
    non_negative: bool,
) -> Bool[Tensor, " p"]:
    """Which rows have an error above the threshold, where row i, the last but p − i of the atoms, may be taken by later
    rows only, and only if its own error is above the threshold. As for `pursue`.
    """
    n = len(unit)
    barred = torch.ones(n, n, dtype=torch.bool).triu()
    values, indices, error = unit.new_empty(n, k), torch.empty(n, k, dtype=torch.long), unit.new_ones(n)
    tensors = [tensor.numpy() for tensor in (unit, correlations, barred, atoms, gram, values, indices, error)]
    _judge(*tensors, *map(np.float32, (threshold, margin, least)), non_negative)
    return error > threshold


def _compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile on import, which no fit's seconds hold, for arrays of these types whose rows lie one after the other."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        # Sums may be taken in another order, many numbers at once: the last bits of a result may differ from torch's.
        options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc"}}
        try:
            return numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:
            warnings.warn(
                "matching pursuit is compiled anew in each process: numba has no folder to keep it in. Set "
                "NUMBA_CACHE_DIR to one that can be written.",
                RuntimeWarning,
                stacklevel=1,  # one place for all functions, so that it is said once
            )
            return numba.njit(signature, **options)(function)

    return decorate


# In functions of their own: within the loop over rows LLVM takes one number at a time.
@_compiled("f4(f4[::1], f4[::1])")
def _dot(a: Any, b: Any) -> Any:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_compiled("(f4[::1], f4, f4[::1])")
def _subtract(row: Any, coefficient: Any, other: Any) -> None:
    for j in range(len(row)):
        row[j] -= coefficient * other[j]


@_compiled("(i4[::1], i4, i4[::1])")
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


@_compiled("i8(i4[::1], i4, i4[::1], f4, f4[::1], f4[:, ::1], b1)")
def _strongest(bits: Any, mask: Any, maxima: Any, margin: Any, residual: Any, atoms: Any, non_negative: Any) -> int:
    """The first place of the largest strength; where others come within the margin, of the largest in float64."""
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
    within = least.view(np.int32)[0]
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


@_compiled(f"({_ARRAYS}, f4, f4, f4, b1, i8, i8)")
def _pursue(
    unit: Any,
    correlations: Any,
    barred: Any,
    atoms: Any,
    gram: Any,
    values: Any,
    indices: Any,
    error: Any,
    tolerance: Any,
    margin: Any,
    least: Any,
    non_negative: Any,
    start: Any,
    end: Any,
) -> None:
    """The rows from start to end."""
    m, n_barred = correlations.shape[1], barred.shape[1]
    # Floats from 0 up are ordered as the integers of the same bits are, of which LLVM compares many at once. The mask
    # leaves a number's strength: all but its sign, or all; those of negative integers may not be taken.
    everything = correlations.view(np.int32)
    every_bit = np.int32(-1)
    mask = every_bit if non_negative else np.int32(0x7FFFFFFF)
    allowed = np.empty(m, np.int32)
    maxima = np.empty(-(-m // _GROUP), np.int32)
    residual = np.empty(unit.shape[1], np.float32)
    for place in range(start, end):
        residual[:] = unit[place]
        row = correlations[place]
        for step in range(values.shape[1]):
            if not error[place] > tolerance:  # it may be NaN
                break
            if n_barred:
                allowed[:] = everything[place] & mask
                for j in range(n_barred):
                    if barred[place, j]:
                        allowed[m - n_barred + j] = -1
                pick = _strongest(allowed, every_bit, maxima, margin, residual, atoms, non_negative)
                if allowed[pick] < 0:
                    break
            else:
                pick = _strongest(everything[place], mask, maxima, margin, residual, atoms, non_negative)
            if non_negative and row[pick] <= least:
                break
            coefficient = _dot(residual, atoms[pick])
            _subtract(residual, coefficient, atoms[pick])
            values[place, step] = coefficient
            indices[place, step] = pick
            error[place] = _dot(residual, residual)
            if step + 1 < values.shape[1]:
                _subtract(row, coefficient, gram[pick, :m])


@_compiled(f"({_ARRAYS}, f4, f4, f4, b1)")
def _judge(
    unit: Any,
    correlations: Any,
    barred: Any,
    atoms: Any,
    gram: Any,
    values: Any,
    indices: Any,
    error: Any,
    threshold: Any,
    margin: Any,
    least: Any,
    non_negative: Any,
) -> None:
    for place in range(len(unit)):
        _pursue(
            *(unit, correlations, barred, atoms, gram, values, indices, error),
            *(threshold, margin, least, non_negative, place, place + 1),
        )
        if error[place] <= threshold:
            barred[place + 1 :, place] = True
