"""The time in which loops and kernels are compiled, which is no learner's own: it is left out of what a fit took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import harness

_begun = (0.0, 0.0)


def begin() -> None:
    """Note that compilation begins; one that fails has no end, and is not left out."""
    global _begun
    _begun = time.perf_counter(), time.thread_time()


def end() -> None:
    """Leave out the time since then."""
    harness.leave_out(time.perf_counter() - _begun[0], time.thread_time() - _begun[1])


@contextmanager
def compiling() -> Iterator[None]:
    """Leave out the time of what is inside: the import of loops, which compiles them."""
    begin()
    yield
    end()
