"""Rows that a model brings along, cut into chunks as `Texts` cuts texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from torch import Tensor

from harness.capturing.capture import Chunk, ChunkPlace
from harness.capturing.draws import drawn_place
from harness.capturing.splits import in_split
from harness.contracts.model import Capture, HasOwnRows

_CHUNK_ROWS = 65536


class OwnRows:
    """The rows that a model has of its own, of one split.

    Args:
        model: has the rows.
        work: what the capture is of.
    """

    def __init__(self, model: HasOwnRows, work: Mapping[str, Any]) -> None:
        self._model, self._work = model, work
        self.n_drawn_from = 0
        """The number of documents that a seed drew from; 0 if none did, and before rows have been read."""

    def chunks(
        self, sites: Sequence[str], is_wanted: Callable[[ChunkPlace], bool], n_rows: int
    ) -> Iterator[tuple[ChunkPlace, Chunk]]:
        """The chunks that are wanted, with their places. See `Texts.chunks`."""
        stored = self._model.stored_capture(list(sites))
        names = stored.rows["document"].astype(str)
        places = places_in_split(names, self._work)
        if self._work.get("draw") is not None:
            self.n_drawn_from = names.iloc[places].nunique()
        for number, start in enumerate(range(0, min(len(places), n_rows), _CHUNK_ROWS)):
            at, part = ChunkPlace(number, start), places[start : start + _CHUNK_ROWS]
            if is_wanted(at):
                x: dict[str, Tensor] = {site: rows[part] for site, rows in stored.x.items()}
                yield at, Capture(x, stored.rows.iloc[part].reset_index(drop=True))


def places_in_split(names: pd.Series[str], work: Mapping[str, Any]) -> Int[np.ndarray, " n"]:
    """The places of the rows that a split has, which goes by document as for any corpus, in the order of a draw.

    Args:
        names: the document of each row.
        work: what the capture is of.
    """
    places = np.flatnonzero([in_split(name, work["documents"]) for name in names])
    if work.get("draw") is None:
        return places
    order = np.array([drawn_place(name, work["draw"]) for name in names.iloc[places]], dtype=np.uint64)
    return places[np.argsort(order, kind="stable")]
