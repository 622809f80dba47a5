"""A step of matching pursuit for float32 rows on a CPU, compiled by numba.

Of a row's m correlations torch makes six passes through memory in each step. Here they are read once, with one row of
the Gram matrix, and stay in the first cache while the largest is looked for. What lies within the margin of doubt is
left to the caller, so the picks are those of torch's steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_GROUP = 64

Taken = tuple[Int[Tensor, " b"], Float[Tensor, "b 1"]]
"""The atoms of the step before, and their coefficients."""


def subtract_and_pick(
    correlations: Float[Tensor, "b m"],
    gram: Float[Tensor, "c c"],
    taken: Taken | None,
    barred: Bool[Tensor, "b p"],
    margin: float,
    non_negative: bool,
) -> tuple[Int[Tensor, " b"], Bool[Tensor, " b"]]:
    """Subtract, in place, what the atoms taken explain; then for each row the atom of the largest |correlation| (or
    correlation) that is not barred, and whether another comes within `margin` of it.
    """
    n = len(correlations)
    picks, doubtful = torch.empty(n, dtype=torch.long), torch.empty(n, dtype=torch.bool)
    atoms, coefficients = taken if taken is not None else (picks[:0], correlations[:0, :1])
    tensors = (correlations, gram, atoms, coefficients.reshape(-1), barred, picks, doubtful)
    arguments = (
        *(tensor.numpy() for tensor in tensors),
        np.float32(margin),
        np.int32(-1 if non_negative else 0x7FFFFFFF),
    )
    _step(*arguments)
    return picks, doubtful


def each_on_a_thread(run: Callable[..., None], parts: Sequence[tuple[Any, ...]]) -> None:
    """Run on each part, as many at a time as torch has threads, torch's own work on one thread in each."""
    n_threads = torch.get_num_threads()
    if min(n_threads, len(parts)) == 1:
        for part in parts:
            run(*part)
        return
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            list(threads.map(lambda part: run(*part), parts))
    finally:
        torch.set_num_threads(n_threads)  # threads started later would have one


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    # Only the last bit of a product may differ from torch's, which the margin of doubt allows for.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError as error:
        warnings.warn(f"matching pursuit is compiled anew in each process: {error}", RuntimeWarning, stacklevel=2)
        return numba.njit(function, **options)


# Apart from the loop over rows: in one function with it, LLVM does one number at a time.
@_compiled
def _subtract(row: Any, coefficient: Any, atom: Any) -> None:
    for j in range(len(row)):
        row[j] -= coefficient * atom[j]


@_compiled
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


@_compiled
def _step(
    correlations: Any,
    gram: Any,
    taken: Any,
    coefficients: Any,
    barred: Any,
    picks: Any,
    doubtful: Any,
    margin: Any,
    mask: Any,
) -> None:
    """`mask` leaves of a number's bits its strength: all but the sign, or all."""
    m, n_barred = correlations.shape[1], barred.shape[1]
    # Floats from 0 up are ordered as the integers of the same bits are, of which LLVM compares many at once.
    everything = correlations.view(np.int32)
    allowed = np.empty(m, np.int32)
    maxima = np.empty(-(-m // _GROUP), np.int32)
    least = np.empty(1, np.float32)
    for place in range(len(correlations)):
        if len(taken):
            _subtract(correlations[place], coefficients[place], gram[taken[place], :m])
        bits = everything[place]
        if n_barred:
            allowed[:] = bits
            for j in range(n_barred):
                if barred[place, j]:
                    allowed[m - n_barred + j] = 0
            bits = allowed
        _group_maxima(bits, mask, maxima)
        best = 0
        for group in range(len(maxima)):
            if maxima[group] > maxima[best]:
                best = group
        least.view(np.int32)[0] = maxima[best]
        least[0] = max(least[0] - margin, np.float32(0))
        within = least.view(np.int32)[0]
        # As in `first_strongest`, the best itself is in both counts.
        n_close = 0
        for group in range(len(maxima)):
            n_close += maxima[group] >= within
        pick = -1
        for j in range(best * _GROUP, min((best + 1) * _GROUP, m)):
            n_close += bits[j] & mask >= within
            if pick < 0 and bits[j] & mask == maxima[best]:
                pick = j
        # None is above 0: any will do, since the caller stops at a strength of 0.
        picks[place] = max(pick, best * _GROUP)
        doubtful[place] = n_close > 2
