"""Checks of what a similarity promises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.capturing.activations import TensorActivations
from harness.comparing.pair_values import PairValue, pair_value
from harness.comparing.pairing import AlignedRows, Pair
from harness.comparing.reading import read
from harness.comparing.sides import SIDES_BYTES, Sides
from harness.contracts.rows import bare_rows
from harness.contracts.similarity import (
    Anchored,
    AnchoredStreaming,
    Permutable,
    PerSide,
    SharedStatistics,
    Similarity,
    Streaming,
    StreamingPerSide,
)
from harness.errors import ConfigError, Undefined, suggest
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.examples import atoms, rows

SIZES = ((400, 24, 20), (2000, 96, 80))
"""Rows and the widths of two sides: the first that the metric has a value for is taken."""
_ENCODED = (300, 12)
"""Rows, as wide as the atoms, whose codes are compared."""
_TOLERANCE = 1e-6
_SHARE = 0.1
_RUN_ROWS, _RUN_BLOCK = 1500, 1024
_RUN_TOLERANCE = 1e-5


class SimilarityUnderTest:
    """A metric, by what makes a fresh one."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Any], of_decompositions: bool = False, of_codes: bool = False) -> None:
        self.make = make
        self.of_decompositions = of_decompositions
        self.of_codes = of_codes

    @cached_property
    def metric(self) -> Similarity:
        """An instance for what it says of itself."""
        metric: Similarity = self.make()
        return metric

    @cached_property
    def _sides(self) -> dict[str, Any]:
        if self.of_decompositions:
            return {"x": atoms(60, seed=0), "y": atoms(80, seed=1), "z": atoms(60, seed=2)}
        for n, d_x, d_y in SIZES:
            x = rows(n, d_x).double()
            mixed = x @ torch.randn(d_x, d_y, generator=_generator(1), dtype=torch.float64)
            sides = {"x": x, "y": mixed + 2 * rows(n, d_y, seed=2), "z": rows(n, d_x, seed=3).double()}
            try:
                self.make()(x.clone(), sides["y"].clone())
                break
            except (Undefined, ConfigError):
                continue
        return sides

    def side(self, name: str) -> Any:
        """`x`; `y`, which has to do with it; `z`, which has not. Rows are for the caller to spoil."""
        side = self._sides[name]
        return side.clone() if isinstance(side, Tensor) else side

    def rows(self, name: str) -> Float[Tensor, "n d"]:
        if self.of_decompositions:
            raise NotChecked("it compares decompositions, not rows")
        side = self.side(name)
        assert isinstance(side, Tensor)  # as has just been asked
        return side

    def value(self, x: Any, y: Any) -> float:
        """The value by a fresh metric; one that compares codes is given rows for both sides."""
        encoded = [rows(*_ENCODED), rows(*_ENCODED)] if self.of_codes else []
        return float(self.make()(x, y, *encoded))


def says_what_it_is(similarity: SimilarityUnderTest) -> None:
    """It has higher_is_more_similar, symmetric and streams, range (low, high) and invariant_to (known names)."""
    metric = similarity.metric
    for name in ("higher_is_more_similar", "symmetric", "streams"):
        if not isinstance(getattr(metric, name, None), bool):
            raise Broken(f"{name} is {getattr(metric, name, 'missing')!r}; say True or False.")
    claimed = getattr(metric, "range", None)
    if not (isinstance(claimed, tuple) and len(claimed) == 2 and claimed[0] < claimed[1]):
        raise Broken(f"range is {claimed!r}; give (lowest, highest), math.inf where there is no end.")
    for name in getattr(metric, "invariant_to", ("",)):
        if name not in _MAPS:
            raise Broken(f"invariant_to names {name or 'nothing, it is missing'!r}.{suggest(name, _MAPS)}")


def gives_a_number_in_its_range(similarity: SimilarityUnderTest) -> None:
    """Values are finite and lie in the range that it states."""
    low, high = similarity.metric.range
    for x, y in (("x", "y"), ("x", "z"), ("x", "x")):
        value = similarity.value(similarity.side(x), similarity.side(y))
        if not math.isfinite(value):
            raise Broken(f"the value is {value}; raise harness.Undefined(reason) where there is none.")
        if not low - _TOLERANCE <= value <= high + _TOLERANCE:
            raise Broken(f"the value is {value}, outside its range {(low, high)}.")


def is_symmetric_as_it_says(similarity: SimilarityUnderTest) -> None:
    """s(x, y) = s(y, x) where `symmetric` is True."""
    if not similarity.metric.symmetric:
        raise NotChecked("it does not say that it is symmetric")
    x, y = similarity.side("x"), similarity.side("y")
    _equal(similarity.value(x, y), similarity.value(y, x), "s(x, y)", "s(y, x)", "say symmetric = False, or mend it")


def is_most_similar_to_itself(similarity: SimilarityUnderTest) -> None:
    """No y is more similar to x than x itself."""
    metric, x = similarity.metric, similarity.side("x")
    itself = similarity.value(x, similarity.side("x"))
    for name in ("y", "z"):
        other = similarity.value(x, similarity.side(name))
        is_worse = other > itself + _TOLERANCE if metric.higher_is_more_similar else other < itself - _TOLERANCE
        if is_worse:
            raise Broken(
                f"s(x, x) is {itself:.6g}, but s(x, y) is {other:.6g} for another y, and higher_is_more_similar is "
                f"{metric.higher_is_more_similar}: nothing may be more similar to x than x."
            )


def keeps_each_invariance(similarity: SimilarityUnderTest) -> None:
    """The value does not change under the maps of one side, or of both, that invariant_to names."""
    x, y = similarity.rows("x"), similarity.rows("y")
    before = similarity.value(x.clone(), y.clone())
    for name in sorted(similarity.metric.invariant_to):
        if name not in _MAPS:
            raise NotChecked(f"nothing to check before {says_what_it_is.__name__} holds")
        for sides, moved in (
            ("x", (_MAPS[name](x), y.clone())),
            ("y", (x.clone(), _MAPS[name](y))),
            ("both sides", (_MAPS[name](x), _MAPS[name](y))),
        ):
            after = similarity.value(*moved)
            what = f"s after the map {name!r} of {sides}"
            _equal(before, after, "s(x, y)", what, f"take {name!r} out of invariant_to, or mend it")


def does_not_mind_the_order_of_rows(similarity: SimilarityUnderTest) -> None:
    """Shuffling the rows of both sides alike moves its value at most a tenth as far as shuffling those of one side."""
    x, y = similarity.rows("x"), similarity.rows("y")
    if isinstance(similarity.metric, Anchored):
        raise NotChecked("it takes the rows at certain places as anchors")
    order = torch.randperm(len(x), generator=_generator(0))
    before, after = similarity.value(x.clone(), y.clone()), similarity.value(x[order], y[order])
    torn_apart = similarity.value(x.clone(), y[order])
    # Not none at all: the published baselines draw anchors from the rows by their place.
    if abs(after - before) > max(_TOLERANCE, _SHARE * abs(torn_apart - before)):
        raise Broken(
            f"s(x, y) is {before:.6g}, but {after:.6g} for the same pairs of rows in another order: rows are a sample, "
            "their place must say nothing."
        )


def streams_as_it_says(similarity: SimilarityUnderTest) -> None:
    """update() by parts, merge() and reset() give what the whole rows give, where `streams` is True."""
    if not similarity.metric.streams:
        raise NotChecked("it does not say that it streams")
    x, y = similarity.rows("x"), similarity.rows("y")
    whole = similarity.value(x.clone(), y.clone())
    for cuts in ([len(x)], [1, len(x) - 1], [len(x) // 3, 5, len(x) - len(x) // 3 - 5]):
        metric = _started(similarity, x, y)
        for own_x, own_y in zip(x.clone().split(cuts), y.clone().split(cuts), strict=True):
            metric.update(own_x, own_y)
        _equal(whole, metric.compute(), "s(x, y)", f"compute() after update() with parts of {cuts} rows", "they agree")
        metric.reset()
        metric.update(x.clone(), y.clone())
        _equal(whole, metric.compute(), "s(x, y)", "compute() after reset() and update(x, y)", "reset() forgets all")
        parts = [_started(similarity, x, y) for _ in cuts]
        for part, own_x, own_y in zip(parts, x.clone().split(cuts), y.clone().split(cuts), strict=True):
            part.update(own_x, own_y)
        for part in parts[1:]:
            parts[0].merge(part)
        _equal(whole, parts[0].compute(), "s(x, y)", f"compute() after merge() of parts of {cuts} rows", "they agree")


def leaves_its_input_alone(similarity: SimilarityUnderTest) -> None:
    """Nothing is written into the rows."""
    x, y = similarity.rows("x"), similarity.rows("y")
    similarity.value(x, y)
    for name, rows_after in (("x", x), ("y", y)):
        if not torch.equal(rows_after, similarity.rows(name)):
            raise Broken(f"s(x, y) has changed {name}: others read the same rows. Use x - mean, not x -= mean.")


def repeats_itself(similarity: SimilarityUnderTest) -> None:
    """Two values of the same rows are equal, whatever the state of the global random generators."""
    values = []
    for seed in (1, 2):
        seed_globally(seed)
        values.append(similarity.value(similarity.side("x"), similarity.side("y")))
    if values[0] != values[1]:
        raise Broken(
            f"s(x, y) is {values[0]!r}, and {values[1]!r} when the global random generators have another state: draw "
            "with torch.Generator().manual_seed(seed), the seed being a parameter."
        )


def has_no_number_for_rows_that_are_all_the_same(similarity: SimilarityUnderTest) -> None:
    """Rows that do not vary give a finite value in the range or raise harness.Undefined, never NaN."""
    y = similarity.rows("y")
    same = similarity.rows("x")
    same[:] = same[0]
    for name, x in (("are all the same", same), ("are all zero", torch.zeros_like(same))):
        try:
            value = similarity.value(x.clone(), y.clone())
        except Undefined:
            continue
        low, high = similarity.metric.range
        if not (math.isfinite(value) and low - _TOLERANCE <= value <= high + _TOLERANCE):
            raise Broken(f"the value is {value} where the rows of x {name}; raise harness.Undefined(reason) there.")


def gives_in_a_run_what_it_gives_alone(similarity: SimilarityUnderTest) -> None:
    """A run, which uses `statistics` and `of_side`, gives the value of s(x, y) to 1e-5."""
    if not isinstance(similarity.metric, SharedStatistics | PerSide | StreamingPerSide):
        raise NotChecked("it names no statistics and says nothing of single sides")
    _, d_x, d_y = next(size for size in SIZES if size[1] == similarity.rows("x").shape[1])
    x = rows(_RUN_ROWS, d_x)
    mixed = x @ torch.randn(d_x, d_y, generator=_generator(1))
    sides = {"x": x, "y": mixed + 2 * rows(_RUN_ROWS, d_y, seed=2), "z": _rotated(x)}
    kept = Sides(SIDES_BYTES)
    values = [_pair_value(similarity, sides, kept, *names) for names in itertools.permutations(sides, 2)]
    read(values, _RUN_BLOCK, torch.device("cpu"))
    for value in values:
        got = value.end()["value"]
        one, other = value.pair.one.name, value.pair.other.name
        alone = similarity.value(sides[one].clone(), sides[other].clone())
        _equal(
            alone, got, f"s({one}, {other})", "its value in a run", "both must follow one definition", _RUN_TOLERANCE
        )


def gives_each_pairing_its_own_value(similarity: SimilarityUnderTest) -> None:
    """permuted() gives s(x, y[order]) for each order of the rows of y, to 1e-5."""
    metric = similarity.make()
    if not isinstance(metric, Permutable):
        raise NotChecked("it has no permuted()")
    x, y = similarity.rows("x"), similarity.rows("y")
    orders = [torch.randperm(len(y), generator=_generator(seed)) for seed in range(3)]
    found = [float(value) for value in metric.permuted(x.clone(), y.clone(), orders)]
    if len(found) != len(orders):
        raise Broken(f"permuted() gives {len(found)} values for {len(orders)} orders; give one for each.")
    for order, got in zip(orders, found, strict=True):
        alone = similarity.value(x.clone(), y[order])
        _equal(alone, got, "s(x, y[order])", "the value of permuted()", "both must pair alike", _RUN_TOLERANCE)


def _pair_value(
    similarity: SimilarityUnderTest, sides: dict[str, Tensor], kept: Sides, one: str, other: str
) -> PairValue:
    n, cpu = _RUN_ROWS, torch.device("cpu")
    views = [
        AlignedRows(name, name, TensorActivations(x, bare_rows(n)), torch.arange(n), torch.zeros(n).bool(), cpu)
        for name, x in ((one, sides[one]), (other, sides[other]))
    ]
    return pair_value("similarity", similarity.make(), "of this check", Pair(*views), kept)


def _started(similarity: SimilarityUnderTest, x: Tensor, y: Tensor) -> Streaming:
    """A fresh metric that has its anchors, if it wants any."""
    metric = similarity.make()
    if not isinstance(metric, Streaming):
        raise Broken("streams is True, but it lacks one of update, merge, compute and reset; see harness.Streaming.")
    metric.reset()
    if isinstance(metric, AnchoredStreaming):
        places = metric.anchor_places(len(x))
        metric.anchors(x[places], y[places])
    return metric


def _equal(a: float, b: float, name_a: str, name_b: str, advice: str, tolerance: float = _TOLERANCE) -> None:
    if not abs(a - b) <= tolerance * max(1.0, abs(a)):
        raise Broken(f"{name_a} is {a:.9g}, but {name_b} is {b:.9g}: {advice}.")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rotated(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    gaussian = torch.randn(x.shape[1], x.shape[1], generator=_generator(5), dtype=x.dtype)
    rotation: Tensor = torch.linalg.qr(gaussian)[0]
    return x @ rotation


_MAPS: dict[str, Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]] = {
    "orthogonal": _rotated,
    "isotropic_scale": lambda x: 7.5 * x,
    "translation": lambda x: x + torch.linspace(-10, 10, x.shape[1], dtype=x.dtype),
    "permutation": lambda x: x[:, torch.randperm(x.shape[1], generator=_generator(6))],
    "invertible": lambda x: _rotated(x) * torch.logspace(-0.5, 0.5, x.shape[1], dtype=x.dtype),
}
"""Maps by the names of `invariant_to`; `permutation` is of columns, `invertible` stands for all linear maps."""

CHECKS: list[Check] = [
    says_what_it_is,
    gives_a_number_in_its_range,
    is_symmetric_as_it_says,
    is_most_similar_to_itself,
    keeps_each_invariance,
    does_not_mind_the_order_of_rows,
    streams_as_it_says,
    leaves_its_input_alone,
    repeats_itself,
    has_no_number_for_rows_that_are_all_the_same,
    gives_in_a_run_what_it_gives_alone,
    gives_each_pairing_its_own_value,
]
