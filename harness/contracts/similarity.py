"""Similarities of representations and decompositions: what each must have, and the abilities it may have besides.

Every ability is a protocol of its own. A metric has it by having its members; nothing needs to be subclassed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.contracts.decomposition import Decomposition

Side: TypeAlias = Literal["x", "y"]
AlignedBlock: TypeAlias = tuple[Mapping[str, Float[Tensor, "b d"]], Mapping[str, Bool[Tensor, " b"]]]
"""The next aligned rows of several representations, by name, and which rows each of them masks."""


class Claims(Protocol):
    """Facts that every similarity states of itself; `harness check` tries whether they hold."""

    @property
    def higher_is_more_similar(self) -> bool:
        """False for distances."""
        ...

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value; `math.inf` where there is no end."""
        ...

    @property
    def symmetric(self) -> bool:
        """True if s(x, y) = s(y, x); otherwise a run computes both."""
        ...

    @property
    def invariant_to(self) -> frozenset[str]:
        """Maps of either side that leave the value as it is: `orthogonal`, `isotropic_scale`, `translation`,
        `permutation` (of columns), `invertible`.
        """
        ...

    @property
    def streams(self) -> bool:
        """True if rows may come block by block: it is then `Streaming`. Parameters may decide."""
        ...


@runtime_checkable
class Similarity(Claims, Protocol):
    """A metric between two representations, row-aligned [n, d1] and [n, d2], or between two decompositions."""

    def __call__(self, x: Any, y: Any, /) -> float:
        """The value, from all rows at once. Raises `Undefined` where there is none."""
        ...


@runtime_checkable
class SimilarityOfCodes(Claims, Protocol):
    """A metric between the codes of two decompositions. The `needs` of its spec name `codes`."""

    def __call__(
        self, a: Decomposition, b: Decomposition, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], /
    ) -> float:
        """The value for a's codes of x and b's codes of y, whose rows are aligned."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """Ability to take rows block by block: what all blocks give together is s(x, y) of all their rows."""

    def update(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], /) -> None:
        """Add aligned rows, any number of them."""
        ...

    def merge(self, other: Self, /) -> None:
        """Add the rows that another instance has seen."""
        ...

    def compute(self) -> float:
        """The value over all rows since the last reset."""
        ...

    def reset(self) -> None:
        """Forget all rows."""
        ...


@runtime_checkable
class Anchored(Protocol):
    """Ability to say which rows are its anchors: those that it compares all others with."""

    def anchor_places(self, n_rows: int, /) -> Int[Tensor, " a"]:
        """The positions of the anchors among n rows."""
        ...


@runtime_checkable
class AnchoredStreaming(Anchored, Streaming, Protocol):
    """Ability to take rows block by block after the anchors, which it is given first."""

    def anchors(self, x: Float[Tensor, "a d1"], y: Float[Tensor, "a d2"], /) -> None:
        """Take these rows as anchors, and forget all others."""
        ...


@runtime_checkable
class SharedStatistics(Protocol):
    """Ability to be computed from statistics of its pair.

    Metrics that name the same class share its work, for all pairs of representations, in one reading of the rows.
    """

    @property
    def statistics(self) -> type[JointStatistics]:
        """The class that makes the statistics."""
        ...

    def compute_from(self, of_pair: Any, /) -> float | Callable[[], float]:
        """The value from what the statistics say of one pair.

        Or a function that gives the value. It is called when all metrics of the reading have had their pairs, so that
        whatever they ask for beyond the statistics can be found for all of them at once.
        """
        ...


class JointStatistics(Protocol):
    """Statistics of many pairs of representations, from one reading of their rows.

    A pair's numbers must not depend on which other pairs are there: a run that was cut off and goes on has fewer.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        same_rows: Mapping[str, str],
        read_again: Callable[[Collection[str]], Iterator[AlignedBlock]],
    ) -> None:
        """Prepare for the first block.

        Args:
            pairs: names of the representations of each pair that will be asked for.
            same_rows: for a representation that is another one shuffled, the name of that one.
            read_again: reads the rows of these representations anew, in the same blocks. It costs as much as the first
                reading, so few should need it, and those all at once.
        """

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]], /) -> None:
        """Add a block of all representations; a pair leaves out rows that either side masks (they may hold NaN)."""
        ...

    def pair(self, x: str, y: str, without_x: Float[Tensor, "j d1"], without_y: Float[Tensor, "k d2"], /) -> Any:
        """The argument of `compute_from`; `without_x` are all rows of x, shown before, that y masks and x does not."""
        ...


@runtime_checkable
class PerSide(Protocol):
    """Ability to do most of its work on each side alone: once for all sides that this one is compared with."""

    def of_side(self, side: Side, rows: Float[Tensor, "n d"], /) -> Any:
        """A tensor, or a tuple of tensors, made of all rows of a side."""
        ...

    def of_sides(self, of_x: Any, of_y: Any, /) -> float:
        """The value from what `of_side` made of either side."""
        ...


@runtime_checkable
class StreamingPerSide(Streaming, Protocol):
    """Ability to do most of the work of `update` on each side alone."""

    def of_side(self, side: Side, rows: Float[Tensor, "n d"], /) -> Any:
        """A tensor, or a tuple of tensors, made of new rows of a side; depends on that side's anchors at most."""
        ...

    def update_sides(self, of_x: Any, of_y: Any, /) -> None:
        """Add rows by what `of_side` made of them."""
        ...


@runtime_checkable
class Permutable(Protocol):
    """Ability to compare many pairings of the same rows for little: whatever is of one side is found once for all."""

    def permuted(
        self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], orders: Iterable[Int[Tensor, " n"]], /
    ) -> Iterable[float]:
        """The value s(x, y[order]), up to rounding, for each order of the rows of y."""
        ...


@runtime_checkable
class WithChance(Protocol):
    """Ability to say which value two unrelated decompositions have."""

    def chance(self, a: Decomposition, b: Decomposition, /) -> float:
        """The value by luck alone, for decompositions of these sizes."""
        ...


@runtime_checkable
class ChanceCorrected(Protocol):
    """Ability to take out of its value what luck gives."""

    def corrected(self, a: Decomposition, b: Decomposition, /) -> float:
        """The value on a scale where luck is 0 and the most that sizes allow is 1."""
        ...


@runtime_checkable
class WithOverlap(Protocol):
    """Ability to say how much of the smaller decomposition is in the larger one."""

    def overlap(self, a: Decomposition, b: Decomposition, /) -> float:
        """The share of the smaller side that is in the other, from 0 to 1."""
        ...


@runtime_checkable
class CountsSilentLatents(Protocol):
    """Ability of a similarity of codes to say how many latents had no part in its value."""

    def silent_share_a(
        self, a: Decomposition, b: Decomposition, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], /
    ) -> float:
        """The share of a's latents that are left out, since their codes of x do not vary."""
        ...

    def silent_share_b(
        self, a: Decomposition, b: Decomposition, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], /
    ) -> float:
        """The share of b's latents that are left out, since their codes of y do not vary."""
        ...
