"""Results that metrics compute from single sides, kept for the next pair with such a side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from harness.contracts.similarity import Side

SIDES_BYTES = 2**30
"""Bytes that may be kept of single sides; the rest is computed anew when it is needed."""


class SideKey(NamedTuple):
    """A key that is equal for sides from which equal metrics compute equal results."""

    what: str
    """`anchors`, or `of_side` for what that gives."""
    call: str
    """The name and parameters that the metric was made with."""
    view: str
    side: Side | None
    """The side that it is of; None where a metric is symmetric, and finds the same of either."""
    kept: bytes
    """The digest of which rows are compared; anchors, too, are given by these."""


class Sides:
    """A cache of limited size for results of single sides; the least recently used ones are dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[SideKey, tuple[Any, int]] = {}
        self._n_bytes = 0

    def of(self, key: SideKey, find: Callable[[], Any]) -> Any:
        """The result under a key, computed now if it is not kept."""
        if key in self._kept:
            self._kept[key] = known = self._kept.pop(key)  # now the last used
            return known[0]
        found, n_bytes = _sized(find())
        while self._kept and self._n_bytes + n_bytes > self._max_bytes:
            self._n_bytes -= self._kept.pop(next(iter(self._kept)))[1]
        self._kept[key] = found, n_bytes
        self._n_bytes += n_bytes
        return found


def _sized(found: Any) -> tuple[Any, int]:
    tensors = found if isinstance(found, tuple) else (found,)
    return found, sum(tensor.nbytes for tensor in tensors)
