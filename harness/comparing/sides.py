"""Things that metrics make of single sides, kept for the next pair that such a side is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

SIDES_BYTES = 2**30
"""Room for what is kept of single sides; the rest is made anew when it is needed."""


class SideKey(NamedTuple):
    """Equal for sides of which equal metrics make the same."""

    what: str
    """`anchors`, or `of_side` for what that gives."""
    call: str
    """The name and parameters that the metric was made with."""
    view: str
    kept: bytes
    """The digest of which rows are compared; anchors, too, are given by these."""


class Sides:
    """A store of limited size: what has gone unused the longest makes room."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[SideKey, tuple[Any, int]] = {}

    def of(self, key: SideKey, find: Callable[[], Any]) -> Any:
        """The thing under a key, found now if it is not kept."""
        found, n_bytes = self._kept.pop(key) if key in self._kept else _sized(find())
        while self._kept and n_bytes + sum(other for _, other in self._kept.values()) > self._max_bytes:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = found, n_bytes
        return found


def _sized(found: Any) -> tuple[Any, int]:
    tensors = found if isinstance(found, tuple) else (found,)
    return found, sum(tensor.nbytes for tensor in tensors)
