"""Similarities of representations and decompositions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxtyping import Bool, Float
from torch import Tensor


class Similarity(Protocol):
    """A metric between two representations (row-aligned tensors), two decompositions, or their codes: `s(a, b, x, y)`.

    Where `streams`, it also has `update(x, y)`, `merge(other)`, `compute()` and `reset()`. What else it may have:

    - `anchor_places(n_rows)`, the places of rows it wants to see first, and `anchors(x, y)`, which is given them;
    - `statistics`, a class as `JointStatistics` describes, and `compute_from(of_pair)`: the value from what that class
      says of one pair. Metrics that name the same class share its work, for all pairs of places, in one reading;
    - `quick_statistics`, a class like it that is asked first: where what it says of a pair makes `compute_from` raise
      `Imprecise`, the rows are read again for `statistics`;
    - `of_side(side, rows)`, one or several tensors, and `of_sides(of_x, of_y)`, the value from what that says of either
      side ("x", "y"). A side's work is then done once for all that it is compared with;
    - where it streams, `update_sides(of_x, of_y)` in place of `of_sides`: `update` by what `of_side` says of new rows,
      which may depend on the anchors of that side and on no other state.
    """

    higher_is_more_similar: bool
    range: tuple[float, float]
    symmetric: bool
    invariant_to: frozenset[str]
    streams: bool

    def __call__(self, x: Any, y: Any) -> float: ...


class JointStatistics(Protocol):
    """What some metrics need to know of many pairs of places, from one reading of their rows.

    A pair's numbers must not depend on which other pairs are there: a run that was cut off and goes on has fewer.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], same_rows: Mapping[str, str]) -> None:
        """The pairs that will be asked for; `same_rows` names, for a place that is another one shuffled, that one."""

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        """The next rows of all places, aligned; a pair leaves out what either side masks (it may not be finite)."""
        ...

    def pair(self, x: str, y: str, without_x: Float[Tensor, "j d1"], without_y: Float[Tensor, "k d2"]) -> Any:
        """What `compute_from` takes; `without_x` are all rows of x, shown before, that y masks and x does not."""
        ...
