"""Verdicts of scorers on single windows: a file for each scoring cell, and all of them as one table.

Two hundred latents with forty windows and a dozen scorers make a hundred thousand verdicts of each decomposition. As
rows of `interp` they would be most of it and, as JSON, slow down whatever reads a record. So they lie beside the record
of their cell, by columns and compressed, and are read only for cards and for `verdicts.parquet`, which is written from
one cell at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import PluginError, StoreError
from harness.files import replacing

if TYPE_CHECKING:
    from harness.contracts.latent import LatentWindow
    from harness.contracts.table_row import Verdict
    from harness.planning.cells import Cell
    from harness.planning.plan import Plan
    from harness.storage.store import Store

FILE = "verdicts.parquet"
_OF_CELL = {
    **dict.fromkeys(("suite", "cell", "family", "model", "site"), pa.string()),
    "fit_tokens": pa.int64(),
    **dict.fromkeys(("method", "method_config"), pa.string()),
    "seed": pa.int64(),
    **dict.fromkeys(("scorer", "scorer_config", "judge", "explainer"), pa.string()),
}
_OWN = {
    **dict.fromkeys(("latent", "sign", "window"), pa.int64()),
    **dict.fromkeys(("document", "sample"), pa.string()),
    **{"label": pa.bool_(), "says": pa.bool_(), "score": pa.float64()},
    **dict.fromkeys(("shown", "reason"), pa.string()),
}
VERDICT_COLUMNS = (*_OF_CELL, *_OWN)


class WindowPlaces:
    """The place of each window in the test half of a card, hard negatives included."""

    def __init__(self, windows: Sequence[LatentWindow]) -> None:
        # Scorers see copies of windows, in an order of their own, and may flip `is_active`.
        self._places: dict[Any, int] = {}
        for place, window in enumerate(windows):
            self._places.setdefault(_identity(window), place)

    def row(self, verdict: Verdict) -> dict[str, Any]:
        """A verdict's own columns; raises PluginError if its window is not the card's, or its score is not finite."""
        window = verdict.window
        if (place := self._places.get(_identity(window))) is None:
            raise PluginError(f"a verdict is about the window {window.text!r:.80}, which is none of the latent's test.")
        if verdict.score is not None and not math.isfinite(verdict.score):
            raise PluginError(f"a verdict has the score {verdict.score}. Give a number, or None.")
        return {
            **{"window": place, "document": _storable(window.document), "sample": window.sample},
            **{"label": bool(verdict.label), "says": None if verdict.says is None else bool(verdict.says)},
            **{"score": verdict.score, "shown": _storable(verdict.shown), "reason": _storable(verdict.reason)},
        }


def _identity(window: LatentWindow) -> tuple[Any, ...]:
    return window.document, window.tokens, window.activations


def _storable(text: str | None) -> str | None:
    """The text without lone surrogates, which cutting up text may leave and tables can't hold."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def write_cell(store: Store, key: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Write the verdicts of one scoring cell, in place of those that were there before; the file's checksum."""
    path = store.verdicts_path(key)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    _write_whole(path, [pa.Table.from_pylist(list(rows), schema=pa.schema(_OWN))], _OWN)
    return store.verdicts_digest(key)


def read_cell(store: Store, key: str) -> list[dict[str, Any]]:
    """The verdicts of one scoring cell, by their own columns; an empty list if it gave none.

    Raises:
        StoreError: they are not as they were written.
    """
    table = _read(store, key)
    rows: list[dict[str, Any]] = [] if table is None else table.to_pylist()
    return rows


def damage(store: Store, key: str) -> str | None:
    """The damage to the verdicts of a scoring cell, naming the file; None if there is none."""
    if not store.is_of_earlier_version(key):
        return store.verdicts_damage(key)
    path = store.verdicts_path(key)
    try:
        pq.read_table(path) if path.exists() else None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return f"{path} is damaged: {' '.join(str(error).split())}"
    return None


def _read(store: Store, key: str) -> pa.Table | None:
    if found := damage(store, key):
        raise StoreError(f"{found}. `harness run` sets it aside and scores its latents again.")
    path = store.verdicts_path(key)
    return pq.read_table(path) if path.exists() else None


@dataclass(frozen=True)
class Verdicts:
    """All verdicts of a plan, read when they are asked for."""

    plan: Plan
    store: Store

    def scored(self, key: str) -> list[Cell]:
        """The scoring cells about one decomposition's latents that are done."""
        return list(self._done(self.plan.of_latents("scoring", key)))

    def write(self, folder: Path) -> None:
        """Write all verdicts as one table; remove the file if there are none."""
        path = folder / FILE
        tables = (self._whole(cell) for cell in self._done(self.plan.of_kind("scoring")))
        given = (table for table in tables if table is not None)
        if (first := next(given, None)) is not None:
            _write_whole(path, chain([first], given), {**_OF_CELL, **_OWN})
        else:
            path.unlink(missing_ok=True)

    def _done(self, cells: list[Cell]) -> Iterator[Cell]:
        for cell in cells:
            record = self.store.end(cell.key)
            if record is not None and record.status == "done":
                yield cell

    def _whole(self, cell: Cell) -> pa.Table | None:
        if (own := _read(self.store, cell.key)) is None:
            return None
        known = {**cell.columns, "suite": self.plan.suite.config.name, "cell": cell.key}
        same = [pa.repeat(pa.scalar(known[name], of_type), len(own)) for name, of_type in _OF_CELL.items()]
        return pa.table([*same, *own.columns], names=VERDICT_COLUMNS)


def _write_whole(path: Path, parts: Iterator[pa.Table] | list[pa.Table], types: Mapping[str, Any]) -> None:
    """Write parts one after the other; a reader sees the old file or the whole new one."""
    with replacing(path) as temporary, pq.ParquetWriter(temporary, pa.schema(types), compression="zstd") as writer:
        for part in parts:
            writer.write_table(part)
