"""Small real parts: learners, decompositions, rows and streams."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

import harness
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.rows import make_rows


def rows_of_text(n: int, tokens_per_document: int = 50) -> pd.DataFrame:
    """Rows of documents `doc0`, `doc1`, ... whose tokens are three characters long."""
    document, position = torch.arange(n) // tokens_per_document, torch.arange(n) % tokens_per_document
    names = [f"doc{i}" for i in document.tolist()]
    columns = {"document": names, "window": position // 16, "position": position % 16}
    return make_rows(columns | {"start": (position * 3).numpy(), "end": (position * 3 + 3).numpy()})


def stream_of(x: Tensor, rows: pd.DataFrame | None = None, seed: int = 0) -> Stream:
    return Stream(TensorActivations(x, rows_of_text(len(x)) if rows is None else rows), torch.arange(len(x)), seed)


class Offset(harness.Decomposition):
    """Codes are the row minus an offset."""

    def __init__(self, offset: Tensor) -> None:
        self.offset = offset
        self.n_latents = len(offset)

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x - self.offset)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values + self.offset


@dataclass
class OrderSensitive:
    """Its result depends on the order of the rows, on where batches are cut and on random numbers."""

    passes: int = 1
    batch_rows: int = 100
    touch: Callable[[harness.Batch], None] = lambda batch: None
    """Called with every batch after it was used."""
    offset: Tensor = field(default_factory=lambda: torch.empty(0), init=False)
    sizes: list[int] = field(default_factory=list, init=False)
    seen: list[pd.DataFrame] = field(default_factory=list, init=False)

    def start(self, info: harness.Info) -> None:
        self.offset = torch.randn(info.width, generator=info.generator("start"), dtype=info.dtype).to(info.device)

    def partial_fit(self, batch: harness.Batch) -> None:
        self.offset = torch.sin(1.7 * self.offset + batch.x.mean(dim=0) + batch.x[0])
        self.sizes.append(len(batch.x))
        self.seen.append(batch.rows)
        self.touch(batch)

    def finish(self) -> harness.Decomposition:
        return Offset(self.offset)


@dataclass
class Stackable(OrderSensitive):
    """Can learn with others in one computation."""

    stack_key: Hashable = "same"
    stacked_with: int = field(default=1, init=False)

    @classmethod
    def stack(cls, learners: Sequence[Stackable]) -> Stacked:
        return Stacked(learners)


class Stacked:
    """Holds what its members learn until `unstack`."""

    resumable = True

    def __init__(self, members: Sequence[Stackable]) -> None:
        self.members = list(members)
        self.passes, self.batch_rows = members[0].passes, members[0].batch_rows

    def start(self, infos: Sequence[harness.Info]) -> None:
        for member, info in zip(self.members, infos, strict=True):
            member.start(info)
        self.offsets = torch.stack([member.offset for member in self.members])

    def partial_fit(self, batches: Sequence[harness.Batch]) -> None:
        for member, batch in zip(self.members, batches, strict=True):
            member.touch(batch)
        learnt = zip(self.offsets, batches, strict=True)
        self.offsets = torch.stack([torch.sin(1.7 * offset + b.x.mean(dim=0) + b.x[0]) for offset, b in learnt])

    def unstack(self) -> None:
        for member, offset in zip(self.members, self.offsets, strict=True):
            member.offset, member.stacked_with = offset, len(self.members)
