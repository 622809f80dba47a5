"""Documents as a monitor keeps them: how well their rows are reconstructed, and which latents fire how often.

The document is the unit. Rows of one document are alike, so tests that count them as independent raise alarms where
nothing changed.

A pole is a latent and a sign; it fires in a row where sign · code > 0, the codes of an atom taken twice being added.
The score of a document is the mean over its rows of ‖x − x̂‖ / ‖x‖, rows of zeros being left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.errors import PluginError

_BLOCK_ROWS = 4096
NO_ROW = -1


@dataclass(frozen=True)
class WatchedDocuments:
    """Sums over the rows of d documents, each of which has at least one; m latents have 2m poles."""

    ids: tuple[str, ...]
    n_rows: Int[np.ndarray, " d"]
    scores: Float[np.ndarray, " d"]
    fired: sparse.csr_array
    """[d, 2m]: in how many rows of each document each pole fires; pole 2i is the positive one of latent i."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Sequence[int] | slice) -> WatchedDocuments:
        """Some of the documents."""
        chosen = np.arange(len(self))[places]
        ids = tuple(self.ids[place] for place in chosen)
        return WatchedDocuments(ids, self.n_rows[chosen], self.scores[chosen], self.fired[chosen])

    def followed_by(self, other: WatchedDocuments) -> WatchedDocuments:
        """These documents and then others of the same decomposition."""
        return WatchedDocuments(
            self.ids + other.ids,
            np.concatenate([self.n_rows, other.n_rows]),
            np.concatenate([self.scores, other.scores]),
            sparse.csr_array(sparse.vstack([self.fired, other.fired])),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All but the ids, for a file of tensors."""
        parts = (self.fired.data, self.fired.indices, self.fired.indptr)
        fired = dict(zip(("fired", "poles", "starts"), (part.astype(np.int32) for part in parts), strict=True))
        arrays = {"n_rows": self.n_rows, "scores": self.scores, **fired}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, ids: Sequence[str], tensors: dict[str, Tensor], n_poles: int) -> WatchedDocuments:
        """The documents that gave these tensors.

        Raises:
            ValueError: no documents with so many poles give such tensors.
        """
        parts = tuple(tensors[name].numpy() for name in ("fired", "poles", "starts"))
        fired = sparse.csr_array(parts, shape=(len(ids), n_poles))
        fired.check_format(full_check=True)  # else places beyond the array are read
        return cls(tuple(ids), tensors["n_rows"].numpy(), tensors["scores"].numpy(), fired)


@dataclass(frozen=True)
class StrongestRows:
    """The strongest row of every document for every pole that fires in it, one entry each."""

    documents: Int[np.ndarray, " e"]
    """The places of the documents among those given."""
    poles: Int[np.ndarray, " e"]
    values: Float[np.ndarray, " e"]
    rows: Int[np.ndarray, " e"]
    """The places of the rows among those given."""

    def of(self, pole: int, n: int) -> list[tuple[int, int]]:
        """The (document, row) of the n documents in which a pole is strongest."""
        own = np.flatnonzero(self.poles == pole)
        own = own[np.argsort(-self.values[own], kind="stable")][:n]
        return list(zip(self.documents[own].tolist(), self.rows[own].tolist(), strict=True))


class DocumentCounter:
    """Adds up rows, which may come in any number of pieces, by their documents."""

    def __init__(self, decomposition: Decomposition, n_documents: int) -> None:
        self._decomposition = decomposition
        self._n_documents, self._n_poles = n_documents, 2 * decomposition.n_latents
        self._errors = np.zeros(n_documents)
        self._n_rows = np.zeros(n_documents, dtype=np.int64)
        self._fired: list[tuple[npt.NDArray[Any], ...]] = []
        self._n_given = 0

    @torch.no_grad()
    def add(self, x: Float[Tensor, "n d"], documents: Int[np.ndarray, " n"]) -> None:
        """Take rows, all finite, with the place of the document that each belongs to.

        Raises:
            Undefined: the decomposition has no reconstruction.
        """
        for first in range(0, len(x), _BLOCK_ROWS):
            self._add(x[first : first + _BLOCK_ROWS], documents[first : first + _BLOCK_ROWS])

    def _add(self, x: Float[Tensor, "b d"], documents: Int[np.ndarray, " b"]) -> None:
        codes = self._decomposition.encode(x.clone())  # a method may write into what it is given
        rows, poles, values = _firing(codes, self._decomposition)
        self._fired.append((documents[rows], poles, values, rows + self._n_given))
        self._n_given += len(x)
        wide = x.double()
        norms = torch.linalg.vector_norm(wide, dim=1).cpu().numpy()
        error = torch.linalg.vector_norm(wide - self._decomposition.decode(codes).double(), dim=1).cpu().numpy()
        if not np.isfinite(error).all():
            raise PluginError(f"{type(self._decomposition).__name__}: reconstructions of finite rows are not finite.")
        counts = norms > 0
        np.add.at(self._errors, documents[counts], error[counts] / norms[counts])
        np.add.at(self._n_rows, documents[counts], 1)

    def counted(self, ids: Sequence[str]) -> tuple[WatchedDocuments, StrongestRows]:
        """The documents that have rows, and their strongest rows."""
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
        documents, poles, values, rows = (np.concatenate(parts) for parts in zip(empty, *self._fired, strict=True))
        fired = sparse.coo_array(
            (np.ones(len(poles), np.int64), (documents, poles)), shape=(self._n_documents, self._n_poles)
        ).tocsr()
        order = np.lexsort((rows, -values, poles, documents))
        pairs = documents[order] * self._n_poles + poles[order]
        first = order[np.concatenate([[True], pairs[1:] != pairs[:-1]])] if len(order) else order
        strongest = StrongestRows(documents[first], poles[first], values[first], rows[first])
        has_rows = np.flatnonzero(self._n_rows)
        n_rows = self._n_rows[has_rows]
        kept = tuple(ids[place] for place in has_rows.tolist())
        return WatchedDocuments(kept, n_rows, self._errors[has_rows] / n_rows, fired[has_rows]), strongest


def watched(
    decomposition: Decomposition, x: Float[Tensor, "n d"], documents: Int[np.ndarray, " n"], ids: Sequence[str]
) -> WatchedDocuments:
    """The documents that have rows among these; `documents` holds the place in `ids` of the document of each row."""
    counter = DocumentCounter(decomposition, len(ids))
    counter.add(x, np.asarray(documents))
    return counter.counted(ids)[0]


def _firing(
    codes: Codes, decomposition: Decomposition
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """The (row, pole, |code|) of all codes that are not 0."""
    values = codes.values.double()
    rows, columns = values.nonzero(as_tuple=True)
    latents = columns if codes.indices is None else codes.indices[rows, columns].long()
    if codes.indices is None:
        found, signed = rows * decomposition.n_latents + latents, values[rows, columns]
    else:
        found, place = (rows * decomposition.n_latents + latents).unique(return_inverse=True)
        signed = torch.zeros(len(found), dtype=torch.float64, device=values.device)
        signed.index_add_(0, place, values[rows, columns])
    if not signed.isfinite().all():
        raise PluginError(f"{type(decomposition).__name__}.encode gives codes that are not finite on finite rows.")
    chosen = signed != 0
    flat, strengths = found[chosen].cpu().numpy(), signed[chosen].cpu().numpy()
    poles = 2 * (flat % decomposition.n_latents) + (strengths < 0)
    return flat // decomposition.n_latents, poles, np.abs(strengths)
