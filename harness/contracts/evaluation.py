"""Evaluations: judgements of one decomposition, and what they may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.contracts.decomposition import Decomposition
from harness.contracts.model import Replay, Truth
from harness.contracts.table_row import TableRow


class Evaluation(Protocol):
    """A judgement of one decomposition."""

    def evaluate(self, decomposition: Decomposition, context: EvaluationContext) -> Iterable[TableRow]:
        """Give the metrics of the decomposition on the rows of the context.

        Raises:
            Undefined: the whole evaluation does not apply; the reason says why. A single metric that can't be computed
                is a row whose value is None.
        """
        ...


@dataclass(frozen=True)
class ReplayedRows:
    """The unmasked evaluation rows of some windows, with the model that goes on from them.

    Whatever is put in place of the rows, all else (special tokens, first positions, sinks) keeps its own activations.
    """

    replay: Replay
    """The windows, which the model has run and can run again."""
    places: Bool[Tensor, "b t"]
    """True for the tokens whose activations are the rows."""
    counted: Bool[Tensor, "b t"]
    """True for those of these tokens that a token of text follows in their window: n predictions, which are counted."""
    next_ids: Int[Tensor, " n"]
    """The tokens that are predicted."""
    documents: Int[Tensor, " n"]
    """The document number of each prediction, as in the context."""
    device: torch.device
    """The device that `rows` are on."""

    @property
    def rows(self) -> Float[Tensor, "r d"]:
        """The rows themselves, in float32."""
        return self.replay.x[self.places].to(self.device, torch.float32)

    def logits(self) -> Float[Tensor, "n v"]:
        """The unhooked model's predictions, as logits."""
        return self._counted(self.replay.logits())

    def patched(self, rows: Float[Tensor, "r d"]) -> Float[Tensor, "n v"]:
        """The model's predictions with `rows` in place of its own, as logits."""
        x = self.replay.x.clone()
        x[self.places] = rows.to(x)
        return self._counted(self.replay.patched(x))

    def _counted(self, logits: Float[Tensor, "b t v"]) -> Float[Tensor, "n v"]:
        return logits[self.counted.to(logits.device)]


@dataclass(frozen=True)
class TextRows:
    """The unmasked rows of some texts."""

    x: Float[Tensor, "n d"]
    """The rows, in float32."""
    documents: Int[Tensor, " n"]
    """The place of each row's text among those that were given."""
    tokens: Sequence[str]
    """The text of each row's token."""


@dataclass(frozen=True)
class EvaluationContext:
    """The data that an evaluation may look at. `blocks` can be iterated any number of times, always in one order."""

    n_rows: int
    """Number of rows, masked ones among them."""
    width: int
    """Dimensions of a row."""
    blocks: Callable[[], Iterator[tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]]]
    """Pairs of float32 rows and their mask; True marks rows that are left out of masked metrics (sinks)."""
    documents: Int[Tensor, " n"]
    """The document number of each row, counted from 0 in the order of the rows."""
    replays: Callable[[], Iterator[ReplayedRows]] | None = None
    """The rows again, batch by batch, with the model that they come from; iterated like `blocks`, in an order of its
    own. Raises `Undefined` where the model has no head."""
    fit_mean: Callable[[], Float[Tensor, " d"]] | None = None
    """The mean of the unmasked fit rows in float64, on the CPU; costs a reading of them."""
    labels: Callable[[], Sequence[Mapping[str, str]]] | None = None
    """The labels of each document, by its number. Raises `Undefined` where there is no corpus that could have them."""
    truth: Callable[[], Truth] | None = None
    """The features that the rows were made of. Raises `Undefined` where they are not known."""
    tokens: Callable[[], Sequence[str]] | None = None
    """The text of each row's token. Raises `Undefined` where there are no texts, or no places of tokens in them."""
    elsewhere: Callable[[Sequence[str]], TextRows] | None = None
    """The rows of other texts, read at the same site of the same model; costs a run of it."""
    shared: dict[str, Any] = field(default_factory=dict)
    """A store for what evaluations want to reuse with the next decomposition of the same rows."""

    @property
    def n_documents(self) -> int:
        """The number of documents that have rows."""
        return int(self.documents.max()) + 1 if self.n_rows else 0
