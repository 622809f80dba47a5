"""The rows on which latents fire, by pole, in the order of the corpus.

A pole of a latent is its index and a sign; its activation is max(0, sign · code), the codes of a latent that a row has
twice being added. It fires where that is above its threshold:

- where codes are sparse (at most a quarter of them are not 0), the threshold is 0;
- of dense codes (a rotation, neurons) it is the largest activation but ⌊.01 n⌋ of n rows, or 0 if that is less, as on
  cards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array
from torch import Tensor

import harness

DENSE = 0.25
MAX_ACTIVE = 0.01
MIN_FIRINGS = 10
"""Fewest rows on which a pole fires of which anything can be said."""
MAX_ENTRIES = 2**25
"""Coefficients after which those of dense codes are thinned out."""
ALIKE = 10
"""Fewest documents of like length that change places with one another."""
_MOST_DRAWN = 2**22
"""Poles times documents whose new places are drawn at once."""


@dataclass(frozen=True)
class Firing:
    """A matrix of rows and poles: 1 where a pole fires."""

    matrix: csc_array
    """[n, p] in float32, the rows of a column rising."""
    latents: Int[np.ndarray, " p"]
    signs: Int[np.ndarray, " p"]
    peaks: Float[np.ndarray, " p"]
    """The largest activation of each pole."""
    lengths: Int[np.ndarray, " m"]
    """The number of rows of each document, in the order of the corpus."""

    @property
    def n_rows(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def counts(self) -> Int[np.ndarray, " p"]:
        """The number of rows on which each pole fires."""
        return np.diff(self.matrix.indptr)

    def chosen(self, poles: Int[np.ndarray, " c"] | Bool[np.ndarray, " p"]) -> Firing:
        """Some of the poles."""
        names = self.latents[poles], self.signs[poles], self.peaks[poles]
        return Firing(self.matrix[:, poles], *names, self.lengths)

    @property
    def documents(self) -> Int[np.ndarray, " n"]:
        """The number of the document of each row."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def is_alive(self) -> Bool[np.ndarray, " p"]:
        """True for poles that fire on `MIN_FIRINGS` rows or more."""
        return np.asarray(self.counts >= MIN_FIRINGS)

    def alive(self) -> Firing:
        """The poles that fire on `MIN_FIRINGS` rows or more."""
        return self.chosen(np.flatnonzero(self.is_alive))

    def on(self, rows: Bool[np.ndarray, " n"]) -> Firing:
        """All poles, on some of the rows."""
        lengths = np.bincount(self.documents[rows], minlength=len(self.lengths))
        matrix = csc_array(self.matrix.tocsr()[rows])
        return Firing(matrix, self.latents, self.signs, self.peaks, lengths[lengths > 0])

    def exchanged(self, generator: np.random.Generator) -> Firing:
        """The null: for each pole by itself, documents of like length change places at random.

        That keeps how often it fires, in what bursts, and that these begin and end with documents; what has two poles
        fire together is broken. In a document of another length it fires at the same part of it; rows that fall
        together there count once. Where there is one document, which is also said of rows of which none is known, √n
        pieces of it change places.
        """
        lengths = self.lengths if len(self.lengths) > 1 else _pieces(self.n_rows)
        begins, of_row = lengths.cumsum() - lengths, np.repeat(np.arange(len(lengths)), lengths)
        columns, own = np.repeat(np.arange(len(self.counts)), self.counts), of_row[self.matrix.indices]
        new = _exchanged(columns, own, _alike(lengths), generator)
        rows = begins[new] + (self.matrix.indices - begins[own]) * lengths[new] // lengths[own]
        entries = np.unique(columns * self.n_rows + rows)
        columns, rows = np.divmod(entries, max(self.n_rows, 1))
        matrix = _matrix(rows, columns, self.matrix.shape)
        return Firing(matrix, self.latents, self.signs, self.peaks, self.lengths)


def _pieces(n: int) -> Int[np.ndarray, " m"]:
    """The lengths of √n pieces of n rows."""
    n_pieces = math.isqrt(n)
    return np.diff(np.arange(n_pieces + 1) * n // max(n_pieces, 1))


def _alike(lengths: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The class of each document: of neighbours in length, all of a length in one, and of `ALIKE` or more."""
    _, own, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    classes, size, n_left = np.zeros(len(counts), np.int64), 0, len(lengths)
    for i, count in enumerate(counts):
        begins_anew = size >= ALIKE and n_left >= ALIKE
        classes[i] = classes[max(i - 1, 0)] + begins_anew
        size, n_left = count + (0 if begins_anew else size), n_left - count
    found: np.ndarray = classes[own]
    return found


def _exchanged(
    poles: Int[np.ndarray, " e"],
    documents: Int[np.ndarray, " e"],
    classes: Int[np.ndarray, " m"],
    generator: np.random.Generator,
) -> Int[np.ndarray, " e"]:
    """The document that is put in the place of another of its class, drawn for each pole by itself.

    Args:
        poles: rising.
        documents: of which the new ones are wanted.
        classes: of all documents.
        generator: to draw with.
    """
    in_order, new = np.argsort(classes, kind="stable"), np.empty_like(documents)
    n_poles, at_once = int(poles[-1]) + 1 if len(poles) else 0, max(_MOST_DRAWN // max(len(classes), 1), 1)
    for first in range(0, n_poles, at_once):
        n = min(at_once, n_poles - first)
        to = np.empty((n, len(classes)), np.int64)
        to[:, in_order] = np.argsort(classes + generator.random((n, len(classes))), axis=1)
        part = slice(*np.searchsorted(poles, [first, first + n]))
        new[part] = to[poles[part] - first, documents[part]]
    return new


@dataclass
class FiringReader:
    """Gathers firing from codes, block by block.

    Args:
        n_latents: of the decomposition.
        n_rows: the most rows that will come.
    """

    n_latents: int
    n_rows: int
    _entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    """Rows, poles and activations, in parts."""
    _places: list[Sequence[np.ndarray]] = field(default_factory=list)
    _n_seen: int = 0
    _n_entries: int = 0
    _n_held: int = 0
    _is_thinned: bool = False
    """True once some entries are gone: then codes count as dense, whatever comes."""

    def add(self, codes: harness.Codes, *places: np.ndarray) -> None:
        """Take the next rows.

        Args:
            codes: of the rows.
            places: what they are to be sorted by, the document first; nothing where they come in order and are of one.
        """
        values, latents = _summed(codes, self.n_latents)
        rows, columns = values.nonzero()
        found = values[rows, columns]
        poles = 2 * (columns if latents is None else latents[rows, columns]) + (found < 0)
        of_32_bits = (rows + self._n_seen).astype(np.int32), poles.astype(np.int32), np.abs(found).astype(np.float32)
        self._entries.append(of_32_bits)
        self._places.append(places)
        self._n_seen += len(values)
        self._n_entries += len(found)
        self._n_held += len(found)
        if self._n_held > MAX_ENTRIES and self._is_dense:
            self._entries = [_thinned(*self._joined(), most=int(MAX_ACTIVE * self.n_rows) + 1)]
            self._n_held = len(self._entries[0][0])
            self._is_thinned = True

    def finish(self) -> Firing:
        """The firing on all rows, of the poles that fire at all."""
        rows, poles, values = self._joined()
        if self._is_dense:
            rows, poles, values = _thinned(rows, poles, values, most=int(MAX_ACTIVE * self._n_seen))
        names, columns = np.unique(poles, return_inverse=True)
        peaks = np.zeros(len(names))
        np.maximum.at(peaks, columns, values)
        place, lengths = self._order()
        matrix = _matrix(place[rows], columns, (self._n_seen, len(names)))
        return Firing(matrix, names // 2, 1 - 2 * (names % 2), peaks, lengths)

    @property
    def _is_dense(self) -> bool:
        return self._is_thinned or self._n_entries > DENSE * self._n_seen * self.n_latents

    def _joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        none = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
        rows, poles, values = (np.concatenate(part) for part in zip(none, *self._entries, strict=True))
        return rows, poles, values

    def _order(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """The place of each row in the corpus, and the number of rows of each document."""
        if not self._places or not self._places[0]:
            return np.arange(self._n_seen), np.array([self._n_seen])
        keys = [np.unique(np.concatenate(part), return_inverse=True)[1] for part in zip(*self._places, strict=True)]
        place = np.empty(self._n_seen, dtype=np.int64)
        place[np.lexsort(keys[::-1])] = np.arange(self._n_seen)
        return place, np.bincount(keys[0])


def _summed(codes: harness.Codes, n_latents: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of codes, and their latents where they are sparse; what a row has twice is added up in the first."""
    values = _numpy(codes.values).astype(np.float64)
    if codes.indices is None:
        return values, None
    latents = _numpy(codes.indices).astype(np.int64)
    order = latents.argsort(axis=1, kind="stable")
    values, latents = np.take_along_axis(values, order, 1), np.take_along_axis(latents, order, 1)
    rows, places = np.nonzero((latents[:, 1:] == latents[:, :-1]) & (values[:, :-1] != 0))
    for row, place in zip(rows, places, strict=True):  # few: only pursuits take an atom again
        values[row, place + 1] += values[row, place]
        values[row, place] = 0.0
    return values, latents


def _numpy(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().numpy()
    return found


def _thinned(
    rows: np.ndarray, poles: np.ndarray, values: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entries of each pole above its largest value but `most`; all where it has no more."""
    order = np.lexsort((-values, poles))
    rows, poles, values = rows[order], poles[order], values[order]
    begins = np.flatnonzero(np.r_[True, poles[1:] != poles[:-1]]) if len(poles) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[begins, len(poles)])
    ranked = np.append(values, np.float32(0))[np.minimum(begins + most, len(values))]
    is_above = values > np.repeat(np.where(counts > most, ranked, 0.0), counts)
    return rows[is_above], poles[is_above], values[is_above]


def _matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csc_array:
    matrix = csc_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sort_indices()
    return matrix
