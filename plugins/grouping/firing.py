"""The rows on which latents fire, by pole, in the order of the corpus.

A pole of a latent is its index and a sign; its activation is max(0, sign · code), the codes of a latent that a row has
twice being added. It fires where that is above its threshold:

- where codes are sparse (at most a quarter of them are not 0), the threshold is 0;
- of dense codes (a rotation, neurons) it is the largest activation but ⌊.01 n⌋ of n rows, or 0 if that is less, as on
  cards.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Firing:
    """A matrix of rows and poles: 1 where a pole fires."""

    matrix: csc_array
    """[n, p] in float32, the rows of a column rising."""
    latents: Int[np.ndarray, " p"]
    signs: Int[np.ndarray, " p"]
    peaks: Float[np.ndarray, " p"]
    """The largest activation of each pole."""

    @property
    def n_rows(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def counts(self) -> Int[np.ndarray, " p"]:
        """The number of rows on which each pole fires."""
        return np.diff(self.matrix.indptr)

    def chosen(self, poles: Int[np.ndarray, " c"] | Bool[np.ndarray, " p"]) -> Firing:
        """Some of the poles."""
        return Firing(self.matrix[:, poles], self.latents[poles], self.signs[poles], self.peaks[poles])

    @property
    def is_alive(self) -> Bool[np.ndarray, " p"]:
        """True for poles that fire on `MIN_FIRINGS` rows or more."""
        return np.asarray(self.counts >= MIN_FIRINGS)

    def alive(self) -> Firing:
        """The poles that fire on `MIN_FIRINGS` rows or more."""
        return self.chosen(np.flatnonzero(self.is_alive))

    def on(self, rows: Bool[np.ndarray, " n"]) -> Firing:
        """All poles, on some of the rows."""
        return Firing(csc_array(self.matrix.tocsr()[rows]), self.latents, self.signs, self.peaks)

    def shifted(self, generator: np.random.Generator) -> Firing:
        """The shift null: each pole's rows moved along the corpus, round its end, by a random number of its own.

        That keeps how often each fires, and in what bursts, and breaks what has two of them fire together.
        """
        n, counts = self.n_rows, self.counts
        by = np.repeat(generator.integers(1, max(n, 2), size=len(counts)), counts)
        rows = (self.matrix.indices + by) % n if n else self.matrix.indices
        return Firing(_matrix(rows, np.repeat(np.arange(len(counts)), counts), self.matrix.shape), *self._names)

    @property
    def _names(self) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Float[np.ndarray, " p"]]:
        return self.latents, self.signs, self.peaks


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
            places: what they are to be sorted by, the most important first; nothing where they come in order.
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
        matrix = _matrix(self._order()[rows], columns, (self._n_seen, len(names)))
        return Firing(matrix, names // 2, 1 - 2 * (names % 2), peaks)

    @property
    def _is_dense(self) -> bool:
        return self._is_thinned or self._n_entries > DENSE * self._n_seen * self.n_latents

    def _joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        none = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
        rows, poles, values = (np.concatenate(part) for part in zip(none, *self._entries, strict=True))
        return rows, poles, values

    def _order(self) -> Int[np.ndarray, " n"]:
        """The place of each row in the corpus."""
        if not self._places or not self._places[0]:
            return np.arange(self._n_seen)
        keys = [np.unique(np.concatenate(part), return_inverse=True)[1] for part in zip(*self._places, strict=True)]
        place = np.empty(self._n_seen, dtype=np.int64)
        place[np.lexsort(keys[::-1])] = np.arange(self._n_seen)
        return place


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
