"""The windows behind captured rows, run through their model again so that something else can stand in the rows' place.

Windows of one length share a batch. A model that predicts next tokens does not see what follows, but what it computes
may depend on how much that is (rotary tables that are scaled to the longest window).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harness.capturing.activations import Activations
from harness.capturing.capture import PlacedWindow, place
from harness.contracts.corpus import Document
from harness.contracts.evaluation import ReplayedRows
from harness.contracts.model import HasHead, Model, RunsTexts, TextModel
from harness.errors import StoreError, Undefined

BATCH_TOKENS = {"cpu": 512}
BATCH_TOKENS_ELSEWHERE = 4096
"""Tokens in one batch at most, so that its logits fit into memory; more on a card, most of which few leave idle."""
MAX_KEPT_BYTES = 4e9


class _WithHead(TextModel, HasHead, Protocol):
    """A model that can do both things that replays need."""


class WindowRows(NamedTuple):
    """A window and the positions of its rows among all rows; they may end before the window does."""

    placed: PlacedWindow
    rows: slice


@dataclass(eq=False)
class Replays:
    """Call it for the replays of all windows, batch by batch: made once, and kept as far as memory allows."""

    load_model: Callable[[], Model]
    documents: Callable[[], Iterable[Document]]
    """The documents that the rows come from, in the same order."""
    site: str
    context: int
    """Tokens in a window."""
    activations: Activations
    """The captured rows."""
    masked: Bool[Tensor, " n"]
    """True for rows that keep their own activations whatever is put in place of the others."""
    device: torch.device
    """The device on which evaluations want the rows."""
    _kept: dict[int, ReplayedRows] = field(default_factory=dict, init=False)
    _kept_bytes: int = field(default=0, init=False)

    def __call__(self) -> Iterator[ReplayedRows]:
        for number, batch in enumerate(self._batches):
            if number in self._kept:
                yield self._kept[number]
                continue
            made = self._replay(batch)
            if self._kept_bytes + made.replay.n_bytes <= MAX_KEPT_BYTES:
                self._kept[number] = made
                self._kept_bytes += made.replay.n_bytes
            yield made

    @cached_property
    def _model(self) -> _WithHead:
        model = self.load_model()
        if not isinstance(model, RunsTexts):
            raise Undefined("its rows are stored; there is no model that could go on from them")
        if not isinstance(model, HasHead):
            raise Undefined(f"its model, {type(model).__name__}, has no replay(): see harness.HasHead")
        return model

    @cached_property
    def _batches(self) -> list[list[WindowRows]]:
        windows = find_windows(self.activations.rows, place(self._model, self.documents(), self.context))
        batches: list[list[WindowRows]] = []
        n_tokens = BATCH_TOKENS.get(self.device.type, BATCH_TOKENS_ELSEWHERE)
        for window in sorted((w for w in windows if not self.masked[w.rows].all()), key=_n_tokens):
            is_other = not batches or _n_tokens(batches[-1][0]) != _n_tokens(window)
            if is_other or (len(batches[-1]) + 1) * _n_tokens(window) > n_tokens:
                batches.append([])
            batches[-1].append(window)
        return batches

    @cached_property
    def _document_numbers(self) -> Int[np.ndarray, " n"]:
        return number_documents(self.activations.rows)

    def _replay(self, batch: Sequence[WindowRows]) -> ReplayedRows:
        shape = len(batch), _n_tokens(batch[0])
        ids, numbers = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        places, is_text = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        for i, (placed, rows) in enumerate(batch):
            unmasked = ~self.masked[rows]
            ids[i] = torch.tensor(placed.window.ids)
            is_text[i] = ~torch.tensor(placed.window.special)
            places[i, torch.from_numpy(np.flatnonzero(placed.keep))[: len(unmasked)][unmasked]] = True
            numbers[i] = self._document_numbers[rows.start]
        counted = places & nn.functional.pad(is_text[:, 1:], (0, 1))
        replay = self._model.replay(ids, self.site)
        index = torch.cat([torch.arange(rows.start, rows.stop)[~self.masked[rows]] for _, rows in batch])
        self._check(replay.x[places], self.activations.take(index))
        next_ids = ids.roll(-1, dims=1)
        return ReplayedRows(replay, places, counted, next_ids[counted], numbers[counted], self.device)

    def _check(self, x: Float[Tensor, "r d"], captured: Float[Tensor, "r d"]) -> None:
        """Refuse to judge by a model that does not give the rows; it may round them otherwise."""
        error, norm = (x.float() - captured).norm(), captured.norm()
        if not error <= torch.finfo(x.dtype).eps ** 0.5 * norm:
            raise StoreError(
                f"{self.site}: the model's activations differ from the captured rows by {error / norm:.2g} of their "
                "norm. If its weights have changed under one name, remove the capture from the cache and run again."
            )


def number_documents(rows: pd.DataFrame) -> Int[np.ndarray, " n"]:
    """The document number of each row, counted from 0 in the order of the rows."""
    return pd.factorize(rows["document"])[0]


def find_windows(rows: pd.DataFrame, placed: Iterator[PlacedWindow]) -> list[WindowRows]:
    """The windows that the rows come from; a StoreError if they are others."""
    documents = rows["document"].astype(str).to_numpy()
    numbers, positions = rows["window"].to_numpy(), rows["position"].to_numpy()
    windows, start = [], 0
    while start < len(rows):
        window = next(placed, None)
        expected = np.flatnonzero(window.keep)[: len(rows) - start] if window else ()
        part = slice(start, start + len(expected))
        if window is None or not (
            (documents[part] == window.document).all()
            and (numbers[part] == window.number).all()
            and (positions[part] == expected).all()
        ):
            raise StoreError(
                f"row {start} is of document {documents[start]}, window {numbers[start]}, and the corpus has another "
                "one there. If its files have changed meanwhile, run the suite again: the rows are captured anew."
            )
        if len(expected):
            windows.append(WindowRows(window, part))
        start = part.stop
    return windows


def _n_tokens(window: WindowRows) -> int:
    return len(window.placed.window.ids)
