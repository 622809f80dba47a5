"""Methods: learners, what they are told and fed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Decomposition


@dataclass(frozen=True)
class Info:
    """What a learner is told before the first batch."""

    width: int
    n_rows: int
    """Rows of one pass."""
    seed: int
    device: torch.device
    dtype: torch.dtype
    mean: Callable[[], Float[Tensor, " d"]]
    """The mean of the rows in float64, taken when called; costs a reading of the rows."""

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator of its own for each purpose: adding one does not shift the numbers of another."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Batch:
    """Rows of the stream. `x` is only lent: clone what is to be kept."""

    x: Float[Tensor, "b d"]
    make_rows: Callable[[], pd.DataFrame] = field(repr=False)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The identity of each row of `x`; made only when asked for."""
        return self.make_rows()


class Learner(Protocol):
    """One configured instance of a method, learning from a stream.

    What else it may have:

    - `resumable = True`: it is saved from time to time, and after a crash goes on in a new instance that has been
      started. All it has learnt must then be in attributes that `harness.fitting.snapshots` follows, and its objects
      made in `start`;
    - `stack_key`: of the learners of one site's rows, those of one class whose keys are equal (and hashable, and not
      None) learn in one computation, `stack(learners)` of their class, which gives a `Stack`.
    """

    passes: int
    batch_rows: int

    def start(self, info: Info) -> None: ...

    def partial_fit(self, batch: Batch) -> None: ...

    def finish(self) -> Decomposition: ...


class Stack(Protocol):
    """Two or more learners that learn in one computation, saved like a learner of its own.

    It is given what each would be given alone, in the order of the learners: those of one seed the same `Info` and the
    same `Batch`. What each learns must be what it would learn alone, up to rounding, whichever the others are: a run
    that was cut off and goes on may have fewer. Time and state count as shared equally.
    """

    passes: int
    batch_rows: int

    def start(self, infos: Sequence[Info]) -> None: ...

    def partial_fit(self, batches: Sequence[Batch]) -> None: ...

    def unstack(self) -> None:
        """Hand each learner what it has learnt. `finish` of each is called next: there one alone may fail."""
        ...
