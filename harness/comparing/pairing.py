"""Rows that two representations share, in the order in which they are compared.

Invariant: what two representations share, and its order, depends on their own captures only, so a value is the same to
the last bit whichever other pairs a job compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.capturing.activations import Features
from harness.capturing.masking import masked_rows
from harness.comparing.joined import JoinedActivations
from harness.errors import StoreError
from harness.planning.keys import content_key
from harness.storage.activation_store import StoredActivations
from harness.storage.store import Store, require

_NULL_SEED = 0


@dataclass(frozen=True, eq=False)
class AlignedRows:
    """The rows of a representation in the order of an alignment; views of one alignment have equally many."""

    name: str
    """Equal for views that hold equal rows in one order."""
    same_rows: str
    """The name of the view that holds the same rows unshuffled; its own name where that is itself."""
    activations: Features
    places: Int[Tensor, " n"]
    masked: Bool[Tensor, " n"]
    device: torch.device

    def take(self, which: slice | Tensor) -> Float[Tensor, "b d"]:
        """The rows at some of the n places, masked ones too."""
        return self.activations.take(self.places[which]).to(self.device)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two views; only rows that neither masks are compared."""

    one: AlignedRows
    other: AlignedRows

    def kept(self, part: slice = slice(None)) -> Bool[Tensor, " b"]:
        """True for the rows that neither side masks; made when asked for, as a job may have ten thousands of pairs."""
        return ~(self.one.masked[part] | self.other.masked[part])

    @cached_property
    def kept_digest(self) -> bytes:
        """A hash of `kept`: equal for pairs that keep the same rows."""
        return hashlib.sha256(self.kept().cpu().numpy().tobytes()).digest()

    @cached_property
    def n_rows(self) -> int:
        return int(self.kept().sum())

    def take(self) -> tuple[Tensor, Tensor]:
        """The rows that are compared."""
        places = self.kept().nonzero().flatten()
        return self.one.take(places), self.other.take(places)

    def left_out(self) -> tuple[Tensor, Tensor]:
        """The rows of each side that only the other one masks."""
        return self.one.take(self.other.masked & ~self.one.masked), self.other.take(
            self.one.masked & ~self.other.masked
        )


class Alignment(NamedTuple):
    """Row i of `a` and row i of `b` stand for the same piece of text; `shuffled_b` is `b` in random order."""

    number: int
    a: Int[Tensor, " n"]
    b: Int[Tensor, " n"]
    shuffled_b: Int[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class SharedRows:
    """The rows of two representations that stand for the same pieces of text."""

    alignment: Alignment
    pair: Pair
    null: Pair
    """The rows of the first with those of the second in random order."""

    @property
    def reversed(self) -> Pair:
        """The pair the other way round."""
        return Pair(self.pair.other, self.pair.one)


class _Representation(NamedTuple):
    """The activations at a site, or at several sites of one model side by side."""

    name: str
    activations: Features
    masked: Bool[Tensor, " n"]
    table: int
    """The number of its table of rows: equal tables, as the sites of one capture have, share one number."""


class Pairing:
    """Opens every representation of a job once and aligns every two tables of rows once."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self.store = store
        self.device = device
        self._opened: dict[str, _Representation] = {}
        self._tables: list[tuple[str, pd.DataFrame]] = []
        self._alignments: dict[tuple[int, int], Alignment] = {}
        self._views: dict[tuple[int, str], AlignedRows] = {}
        self._shared: dict[tuple[str, str], SharedRows] = {}

    def shared(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> SharedRows:
        """The rows that two representations share.

        A representation is given by its captures and the norm from which rows are masked, or by several `sites` of one
        model, each so given.
        """
        one, other = self._open(a), self._open(b)
        if (one.name, other.name) not in self._shared:
            alignment = self._alignment(one.table, other.table)
            b_role = "a" if torch.equal(alignment.a, alignment.b) else "b"
            view_a = self._view(alignment, one, "a", alignment.a)
            view_b = self._view(alignment, other, b_role, alignment.b)
            shuffled_b = self._view(alignment, other, "shuffled b", alignment.shuffled_b, view_b.name)
            pairs = Pair(view_a, view_b), Pair(view_a, shuffled_b)
            self._shared[one.name, other.name] = SharedRows(alignment, *pairs)
        return self._shared[one.name, other.name]

    def _open(self, side: Mapping[str, Any]) -> _Representation:
        name = content_key(dict(side))
        if name not in self._opened and "sites" in side:
            self._opened[name] = self._joined(name, [self._open(site) for site in side["sites"]])
        elif name not in self._opened:
            capture, fit = (require(self.store, "capture", side[key]) for key in ("capture", "fit_capture"))
            activations = StoredActivations(*capture)
            masked = masked_rows(activations, StoredActivations(*fit), side["max_norm_multiple"])
            # Its own reader, so that no table is kept but those that differ.
            table = self._table(activations.manifest["tokenizer_hash"], StoredActivations(*capture).rows)
            self._opened[name] = _Representation(name, activations, masked, table)
        return self._opened[name]

    def _joined(self, name: str, sites: list[_Representation]) -> _Representation:
        """Join sites; a row that one of them masks is masked."""
        if len({site.table for site in sites}) > 1:
            raise StoreError("the sites of one model were captured on different rows. Delete its captures, run again.")
        activations = JoinedActivations([site.activations for site in sites])
        masked = torch.stack([site.masked for site in sites]).any(dim=0)
        return _Representation(name, activations, masked, sites[0].table)

    def _table(self, tokenizer_hash: str, rows: pd.DataFrame) -> int:
        for number, (known_hash, known) in enumerate(self._tables):
            if tokenizer_hash == known_hash and rows.equals(known):
                return number
        self._tables.append((tokenizer_hash, rows))
        return len(self._tables) - 1

    def _alignment(self, a: int, b: int) -> Alignment:
        if (a, b) not in self._alignments:
            (hash_a, rows_a), (hash_b, rows_b) = self._tables[a], self._tables[b]
            columns = ["document", "window", "position"] if hash_a == hash_b else ["document", "end"]
            places_a, places_b = align(rows_a[columns], rows_b[columns])
            order = torch.randperm(len(places_b), generator=torch.Generator().manual_seed(_NULL_SEED))
            number = len(self._alignments)
            self._alignments[a, b] = Alignment(number, places_a, places_b, places_b[order])
        return self._alignments[a, b]

    def _view(
        self,
        alignment: Alignment,
        of: _Representation,
        role: str,
        places: Int[Tensor, " n"],
        same_rows: str | None = None,
    ) -> AlignedRows:
        name = f"{of.name} {role}"
        if (alignment.number, name) not in self._views:
            masked = of.masked[places]
            view = AlignedRows(name, same_rows or name, of.activations, places, masked, self.device)
            self._views[alignment.number, name] = view
        return self._views[alignment.number, name]


def align(a: pd.DataFrame, b: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Places (by index label) of the rows that two tables share, in the order of the first.

    Where several tokens of one side end at the same character, the last is taken: it has seen all the others.
    """
    columns = list(a.columns)
    sides = [
        side.dropna().drop_duplicates(keep="last").assign(**{f"place_{name}": lambda t: t.index})
        for name, side in (("a", a), ("b", b))
    ]
    shared = sides[0].merge(sides[1], on=columns, how="inner").sort_values("place_a")
    place_a, place_b = (torch.tensor(shared[f"place_{name}"].to_numpy()) for name in "ab")
    return place_a, place_b
