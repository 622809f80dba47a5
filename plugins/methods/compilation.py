"""What is compiled by numba for a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np


def compiled(*signatures: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile on import, which no fit's seconds hold, for arrays of these types whose rows lie one after the other."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        # Sums may be taken in another order, many numbers at once: the last bits of a result may differ from torch's.
        options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc"}}
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)
        except RuntimeError:
            warnings.warn(
                "parts of the methods are compiled anew in each process: numba has no folder to keep them in. Set "
                "NUMBA_CACHE_DIR to one that can be written.",
                RuntimeWarning,
                stacklevel=1,  # one place for all functions, so that it is said once
            )
            return numba.njit(list(signatures), **options)(function)

    return decorate


@compiled("f4(f4[::1], f4[::1])")
def dot(a: Any, b: Any) -> Any:
    """A function of its own: within a loop over rows LLVM would take one number at a time."""
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total
