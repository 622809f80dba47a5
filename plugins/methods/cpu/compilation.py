"""Compilation of loops by numba, and the threads they run on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba.core.caching import FunctionCache

from harness.plugins.methods.code_folder import others_may_write


def compiled(*signatures: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile on import, so that it counts in no fit's time, for arrays of these types in C order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        # Sums may be taken in another order, many numbers at once: the last bits of a result may differ from torch's.
        options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc"}}
        problem = _problem_of_folder(function)
        if problem:
            warnings.warn(
                f"parts of the methods are compiled anew in each process: {problem}. Set NUMBA_CACHE_DIR to a folder "
                "that you can write, and nobody else: numba runs the code that it finds there.",
                RuntimeWarning,
                stacklevel=1,  # one place for all functions, so that it is said once
            )
        return numba.njit(list(signatures), cache=problem is None, **options)(function)

    return decorate


def _problem_of_folder(function: Callable[..., Any]) -> str | None:
    """The reason why nothing is kept of what is compiled; None if numba has a folder that is fit for code."""
    try:
        folder = Path(FunctionCache(function).cache_path)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return "numba has no folder to keep them in"
    is_beside_code = folder.parent == Path(function.__code__.co_filename).parent  # and as open to others as that
    if is_beside_code or not others_may_write(folder):
        return None
    return f"others may write in {folder}, where numba would keep them"


def in_parts(work: Callable[[int, int], None], n_rows: int, least_rows: int = 1) -> None:
    """Call work(start, end) for parts of the rows, on as many threads as torch has, this one among them.

    Threads that outlive the call would be missing in a process forked later, which would wait for them.
    """
    n_parts = max(1, min(torch.get_num_threads(), n_rows // least_rows))
    cuts = [n_rows * part // n_parts for part in range(n_parts + 1)]
    if n_parts == 1:
        return work(0, n_rows)
    with ThreadPoolExecutor(n_parts - 1) as threads:
        others = threads.map(work, cuts[1:-1], cuts[2:])
        work(*cuts[:2])
        list(others)


@compiled("f4(f4[::1], f4[::1])")
def dot(a: Any, b: Any) -> Any:
    """The dot product of two vectors; a function of its own, as LLVM would not vectorise it within a loop over rows."""
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total
