"""Methods: learners, and what they are told and fed.

A learner ends in a `harness.Decomposition`, whose class may override `report` (numbers about the fit, for the cost
table) and `state` with `from_state` (what goes to disk).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Decomposition
from harness.contracts.rows import hash_rows


@dataclass(frozen=True)
class Info:
    """Facts that a learner is given before the first batch."""

    width: int
    """Dimensions of a row."""
    n_rows: int
    """Rows of one pass."""
    seed: int
    """Seed of the fit; `generator` draws from it."""
    device: torch.device
    """The device that rows are on."""
    dtype: torch.dtype
    """The type of the rows."""
    mean: Callable[[], Float[Tensor, " d"]]
    """The mean of the rows in float64, taken when called; costs a reading of the rows."""
    base: Decomposition | None = None
    """The fit of another method that this one learns from, where its Spec says needs=("fit",)."""

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator of its own for each purpose: adding one does not shift the numbers of another."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Batch:
    """Rows of the stream. `x` is only lent: clone what is to be kept."""

    x: Float[Tensor, "b d"]
    """The rows, b of them in order of the stream."""
    make_rows: Callable[[], pd.DataFrame] = field(repr=False)
    """The maker of `rows`, for the engine."""
    make_hashes: Callable[[], npt.NDArray[np.uint64]] | None = field(default=None, repr=False)
    """The maker of `hashes`, for the engine; None where they are those of `rows`."""

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The identity of each row of `x`; made only when asked for."""
        return self.make_rows()

    @cached_property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """A hash of the document, window and position of each row of `x`: the same in every pass, and quick to have."""
        return hash_rows(self.rows) if self.make_hashes is None else self.make_hashes()


class Learner(Protocol):
    """One configured instance of a method, learning from a stream of rows."""

    @property
    def passes(self) -> int:
        """Times that it wants to see all rows, from 1 on; the stream is shuffled anew for each."""
        ...

    @property
    def batch_rows(self) -> int:
        """Rows of a batch, from 1 on; the last batch of a pass may have fewer."""
        ...

    def start(self, info: Info) -> None:
        """Make ready; called once, before the first batch."""
        ...

    def partial_fit(self, batch: Batch) -> None:
        """Learn from the next rows."""
        ...

    def finish(self) -> Decomposition:
        """Give what was learnt; called once, after the last batch.

        Raises:
            Undefined: these rows can't be decomposed; the reason says why.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """A learner that is saved from time to time, and after a crash goes on in a new instance that has been started.

    All it has learnt must be in attributes that a snapshot takes (numbers, strings, tensors, random generators, what
    has a `state_dict`, and objects, lists and dicts of these), and its objects made in `start`.
    """

    @property
    def resumable(self) -> bool:
        """True where this instance is to be saved; parameters may decide."""
        ...


@runtime_checkable
class Stackable(Protocol):
    """A learner that can learn in one computation with others of its class."""

    @property
    def stack_key(self) -> Hashable:
        """A key that learners who can learn together share, of one class and one site's rows; None: by itself."""
        ...

    @classmethod
    def stack(cls, learners: Sequence[Any]) -> Stack:
        """Make one of two or more learners of this class."""
        ...


class Stack(Protocol):
    """Two or more learners that learn in one computation, saved like a learner of its own.

    It is given what each would be given alone, in the order of the learners: those of one seed the same `Info` and the
    same `Batch`. What each learns must be what it would learn alone, up to rounding, whichever the others are: a run
    that was cut off and goes on may have fewer. Time and state count as shared equally.
    """

    @property
    def passes(self) -> int:
        """Passes over the rows, as each of the learners wants them."""
        ...

    @property
    def batch_rows(self) -> int:
        """Rows in the batch of each learner."""
        ...

    def start(self, infos: Sequence[Info]) -> None:
        """Make ready; called once, before the first batches."""
        ...

    def partial_fit(self, batches: Sequence[Batch]) -> None:
        """Learn from the next rows of each learner."""
        ...

    def unstack(self) -> None:
        """Hand each learner what it has learnt. `finish` of each is called next: there one alone may fail."""
        ...
