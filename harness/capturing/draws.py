"""Draws of documents: by a seed, from those of a split.

A draw is a random sample without replacement of the documents that a split begins with: of as many as hold
`POOL_CHARACTERS` for each row that is wanted, which is the whole split unless it is long. A row being some five
characters of text, two draws from a long corpus have a twentieth of their documents in common. From a short one they
have more, and vary less than draws from all texts there are: with a quarter in common by a seventh.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator

from harness.contracts.corpus import Document

POOL_CHARACTERS = 100
_KEPT_CHARACTERS = 20
"""Characters for each row that are held in memory: more than tokens have on average, in whatever language."""


class Draw:
    """Documents in an order that a seed draws, of which an id alone decides the place.

    Args:
        documents: those of the split.
        seed: the seed.
        n_rows: the rows that are wanted.
    """

    def __init__(self, documents: Iterable[Document], seed: int, n_rows: int) -> None:
        self._documents = documents
        self._seed = seed
        self._n_rows = n_rows
        self.n_documents = 0
        """The number of documents that were drawn from; 0 before they have been read."""

    def __iter__(self) -> Iterator[Document]:
        kept: list[tuple[int, str, Document]] = []  # a heap, the last of the order on top
        n_read, n_kept = 0, 0
        for document in self._documents:
            n_read, n_kept = n_read + len(document.text), n_kept + len(document.text)
            self.n_documents += 1
            heapq.heappush(kept, (-drawn_place(document.id, self._seed), document.id, document))
            while n_kept - len(kept[0][2].text) >= _KEPT_CHARACTERS * self._n_rows:
                n_kept -= len(heapq.heappop(kept)[2].text)
            if n_read >= POOL_CHARACTERS * self._n_rows:
                break
        kept.sort(reverse=True)
        yield from (document for _, _, document in kept)


def drawn_place(document_id: str, seed: int) -> int:
    """A number by whose size a seed orders documents; those of two seeds have nothing to do with each other."""
    return int.from_bytes(hashlib.blake2b(f"draw/{seed}/{document_id}".encode(), digest_size=8).digest(), "big")
