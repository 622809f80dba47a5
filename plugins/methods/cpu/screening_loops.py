"""The loops of screening, row by row, compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.plugins.methods.cpu.compilation import compiled, dot, in_parts
from harness.plugins.methods.cpu.largest import group_maxima, kth_largest
from harness.plugins.methods.rounding import RELATIVE

_MOST_CANDIDATES = 1 / 8
"""Largest share of latents that are candidates; beyond it, one product with all of them is faster."""


def rounded(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The rows in bfloat16, their norms, and the norms of what rounding took from them."""
    half, norms, lost = x.to(torch.bfloat16), x.new_empty(len(x)), x.new_empty(len(x))
    arrays = [tensor.detach().numpy() for tensor in (x, half.view(torch.int16), norms, lost)]
    in_parts(lambda *part: _norms(*arrays, *part), len(x), 1 + 2**19 // x.shape[1])
    return half, norms, lost


def largest_in_float32(
    pre: Float[Tensor, "b m"],
    slack: Float[Tensor, " b"],
    y: Float[Tensor, "b d"],
    encoder: Float[Tensor, "m d"],
    bias: Float[Tensor, " m"],
    k: int,
) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"], Bool[Tensor, " b"]]:
    """The k largest pre-activations of each row, 0 for negative ones, their latents, and whether they are proven.

    Those in float32 differ from `pre`, in bfloat16, by at most RELATIVE·|pre| + slack.
    """
    values, latents = y.new_empty(len(y), k), torch.empty(len(y), k, dtype=torch.long)
    proven = torch.empty(len(y), dtype=torch.bool)
    tensors = (pre.view(torch.int16), slack, y, encoder, bias, values, latents, proven)
    arrays = [tensor.detach().numpy() for tensor in tensors]
    in_parts(lambda *part: _largest(*arrays, *part), len(y))
    return values, latents, proven


@compiled("(f4[:, ::1], i2[:, ::1], f4[::1], f4[::1], i8, i8)")
def _norms(x: Any, half: Any, norms: Any, lost: Any, start: Any, end: Any) -> None:
    bits = np.empty(x.shape[1], np.int32)
    back = bits.view(np.float32)
    for i in range(start, end):
        for j in range(x.shape[1]):
            bits[j] = np.int32(half[i, j]) << 16
        for j in range(x.shape[1]):
            back[j] = x[i, j] - back[j]
        norms[i] = np.sqrt(dot(x[i], x[i]))
        lost[i] = np.sqrt(dot(back, back))


@compiled("i8(i2[::1], i2[::1], i8, i8, i8[::1], i8)")
def _find(row: Any, maxima: Any, low: Any, high: Any, found: Any, n: Any) -> Any:
    """Append the places of the numbers from `low` to below `high` to the n found; return how many there are now."""
    for group in range(len(maxima)):
        if maxima[group] >= low:
            for j in range(group, len(row), len(maxima)):
                found[n] = j
                n += low <= row[j] < high
    return n


@compiled("(f4[::1], f4[:, ::1], f4[::1], i8[::1], i8, i8, f4[::1])")
def _multiply(y: Any, encoder: Any, bias: Any, found: Any, start: Any, end: Any, exact: Any) -> None:
    """The pre-activations in float32 at the places found, 0 for negative ones."""
    for c in range(start, end):
        product = dot(y, encoder[found[c]]) + bias[found[c]]
        exact[c] = product if product > 0 else np.float32(0)


@compiled("(i8[::1], i4[::1], f4[::1], f4[::1], i8[::1])")
def _keep(found: Any, bits: Any, exact: Any, values: Any, latents: Any) -> None:
    k = len(values)
    last, n_equal, n = kth_largest(bits, k), k, 0
    for c in range(len(bits)):
        n_equal -= bits[c] > last
    for c in range(len(bits)):
        if bits[c] > last or (bits[c] == last and n_equal > 0):
            n_equal -= bits[c] == last
            values[n], latents[n] = exact[c], found[c]
            n += 1


@compiled("(i2[:, ::1], f4[::1], f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1], i8[:, ::1], b1[::1], i8, i8)")
def _largest(
    pre: Any, slack: Any, y: Any, encoder: Any, bias: Any, values: Any, latents: Any, proven: Any, start: Any, end: Any
) -> None:
    """Find and prove the largest of most rows: those above the floor in float32, then the few that may lie below it."""
    m, k = pre.shape[1], values.shape[1]
    most = max(int(m * _MOST_CANDIDATES), k)
    maxima, found = np.empty(max(m // 32, min(m, 4 * k)), np.int16), np.empty(m + 1, np.int64)
    bits = np.empty(m + 1, np.int32)  # of floats from 0 up, whose order is that of these integers
    exact = bits.view(np.float32)
    for i in range(start, end):
        row = pre[i]
        proven[i] = False
        group_maxima(row, maxima)
        # As many groups reach this, so k pre-activations do: the k-th largest of them in float32 bounds the codes.
        high = max(kth_largest(maxima, k), 1)
        n = _find(row, maxima, high, 2**15, found, 0)
        if n < k or n > most:
            continue
        _multiply(y[i], encoder, bias, found, 0, n, exact)
        bits[n] = kth_largest(bits[:n], k)
        exact[n] = (exact[n] - slack[i]) / (1 + RELATIVE)
        low = bits[n] >> 16
        if not exact[n] > 0 or low == 0:  # it may be NaN
            continue
        n_all = _find(row, maxima, low, high, found, n)
        if n_all <= most:
            _multiply(y[i], encoder, bias, found, n, n_all, exact)
            _keep(found, bits[:n_all], exact, values[i], latents[i])
            proven[i] = True
