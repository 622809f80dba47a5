"""Rows that can be read at random: from one tensor or from a store. The stream draws its batches from here.

Invariant: the order of a stream depends on (seed, pass, document, end) only, so two models see the rows they share
in the same relative order. Where rows are shuffled among their neighbours it depends on where these are in the texts
too: on the order of the documents, and how far the rows of each reach.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.contracts.rows import hash_rows

BLOCK_ROWS = 4096


class Features(Protocol):
    """Access to n rows of width d."""

    @property
    def n_rows(self) -> int: ...

    @property
    def width(self) -> int: ...

    def take(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The rows at these places, in float32."""
        ...


class Activations(Features, Protocol):
    """Rows with their identities, aligned."""

    @property
    def rows(self) -> pd.DataFrame: ...

    def take_many(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Rows as `take` gives them, for very many places in any order."""
        ...


@dataclass(frozen=True)
class TensorActivations:
    """Activations held in memory as one tensor."""

    x: Float[Tensor, "n d"]
    rows: pd.DataFrame

    @property
    def n_rows(self) -> int:
        return self.x.shape[0]

    @property
    def width(self) -> int:
        return self.x.shape[1]

    def take(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return self.x[index.to(self.x.device)]

    def take_many(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return self.take(index)


@dataclass(frozen=True)
class Stream:
    """Rows of `activations` at `keep`, replayed in one order per pass."""

    activations: Activations
    keep: Int[Tensor, " n"]
    seed: int
    in_given_order: bool = False
    """The first pass keeps the order of `keep`: for callers whose order already is the stream."""
    shuffle_characters: int | None = None
    """The most characters of text that a row is moved back by; None: all rows are shuffled."""

    @property
    def n_rows(self) -> int:
        return len(self.keep)

    def blocks(self, pass_number: int, first: int = 0) -> Iterator[tuple[Float[Tensor, "b d"], Int[Tensor, " b"]]]:
        """(rows, their places in the activations) in stream order, from the row with the number `first` on."""
        for index in self.order(pass_number)[first:].split(BLOCK_ROWS):
            yield self.activations.take(index), index

    def order(self, pass_number: int) -> Int[Tensor, " n"]:
        """The places in the activations in the order in which a pass reads them."""
        if self.in_given_order and pass_number == 0:
            return self.keep
        return self.keep[self.permutation(pass_number)]

    def permutation(self, pass_number: int) -> Int[Tensor, " n"]:
        """The places in `keep` in that order."""
        if self.in_given_order and pass_number == 0:
            return torch.arange(len(self.keep))
        # Made anew for each pass: kept, it would take more memory than all else that is known of a row, for each seed.
        rows, keep = self.activations.rows, self.keep.numpy()
        drawn = _Tokens.of(rows.iloc[keep]).drawn(self.seed, pass_number)
        if self.shuffle_characters is None:
            return torch.from_numpy(np.argsort(drawn, kind="stable"))
        moved_back = self.shuffle_characters * (drawn / 2.0**64)
        return torch.from_numpy(np.argsort(ends_in_texts(rows)[keep] + moved_back, kind="stable"))

    @cached_property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """A hash of the identity of each row of the activations, made once for all batches."""
        return hash_rows(self.activations.rows)


def stream_order(rows: pd.DataFrame, seed: int, pass_number: int) -> Int[Tensor, " n"]:
    """The permutation that sorts rows by a hash of (seed, pass, document, end).

    Tokens that end at one character (a byte-level tokenizer splits one emoji into several) stay in their own order.
    """
    return torch.from_numpy(np.argsort(_Tokens.of(rows).drawn(seed, pass_number), kind="stable"))


@dataclass(frozen=True)
class _Tokens:
    """The part of the identities of rows that orders are made of: the document of each, and where in it it ends."""

    documents: list[str]
    codes: npt.NDArray[np.int64]
    ends: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Tokens:
        codes, documents = pd.factorize(rows["document"])
        # Without offsets (slow tokenizers, bare tensors) the window and position take the place of the end.
        fallback = (rows["window"].to_numpy(np.int64) << 32) + rows["position"].to_numpy(np.int64)
        has_end = rows["end"].notna().to_numpy()
        ends = rows["end"].where(has_end, 0).to_numpy(np.int64)
        place = np.where(has_end, ends, fallback | (1 << 62)).astype(np.uint64)
        return cls([str(document) for document in documents], codes, _mix(place))

    def drawn(self, seed: int, pass_number: int) -> npt.NDArray[np.uint64]:
        """A number for each row by which a pass sorts them: a hash of (seed, pass, document, end)."""
        salt = f"{seed}/{pass_number}/".encode()
        keys = np.array(
            [
                int.from_bytes(hashlib.blake2b(salt + document.encode(), digest_size=8).digest(), "big")
                for document in self.documents
            ],
            dtype=np.uint64,
        )
        return _mix(keys[self.codes] ^ self.ends)


def ends_in_texts(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The place where each row ends, in characters from the beginning of the first document on.

    A document is as long as its rows reach. Rows without offsets count as one character each.
    """
    codes, documents = pd.factorize(rows["document"])
    counts = rows.groupby(codes).cumcount().to_numpy(np.int64) + 1
    ends = np.where(rows["end"].notna(), rows["end"].fillna(0).to_numpy(np.int64), counts)
    lengths = np.zeros(len(documents), dtype=np.int64)
    np.maximum.at(lengths, codes, ends)
    return (np.cumsum(lengths) - lengths)[codes] + ends


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014): spreads neighbouring keys over all 64 bits."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
