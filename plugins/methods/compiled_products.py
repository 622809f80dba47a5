"""Products of chosen pairs of rows on a CPU, compiled by numba: torch's kernel for them takes six times as long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugins.methods.compilation import compiled, dot


def can_be_compiled(*tables: Tensor) -> bool:
    """Whether `products` takes them."""
    return all(x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() for x in tables)


def products(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], rows: Int[Tensor, " e"], others: Int[Tensor, " e"]
) -> Float[Tensor, " e"]:
    """x[row] · y[other] for each pair, on as many threads as torch has."""
    found = x.new_empty(len(rows))
    arrays = [tensor.detach().numpy() for tensor in (x, y, rows, others, found)]
    n_parts = torch.get_num_threads()
    cuts = [len(rows) * part // n_parts for part in range(n_parts + 1)]
    with ThreadPoolExecutor(n_parts) as threads:
        list(threads.map(lambda part: _products(*arrays, *cuts[part : part + 2]), range(n_parts)))
    return found


@compiled("(f4[:, ::1], f4[:, ::1], i8[::1], i8[::1], f4[::1], i8, i8)")
def _products(x: Any, y: Any, rows: Any, others: Any, found: Any, start: Any, end: Any) -> None:
    for i in range(start, end):
        found[i] = dot(x[rows[i]], y[others[i]])
