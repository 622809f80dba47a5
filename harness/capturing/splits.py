"""Splits of documents, for fitting, evaluation and interpretation: no document is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from harness.contracts.corpus import Document


def in_split(document_id: str, share: Sequence[float]) -> bool:
    """True if a document belongs to a split: its id alone decides, so that splits stay disjoint for ever.

    Args:
        document_id: the stable id.
        share: where the split begins and ends, as shares of all documents: [0.1, 0.2] is the second tenth.
    """
    digest = hashlib.blake2b(f"split/{document_id}".encode(), digest_size=8).digest()
    low, high = share
    return low <= int.from_bytes(digest, "big") / 2**64 < high


def documents_in_split(documents: Iterable[Document], share: Sequence[float]) -> Iterator[Document]:
    """The documents of a split; a text that comes twice is taken once."""
    seen: set[str] = set()
    for document in documents:
        if in_split(document.id, share) and document.id not in seen:
            seen.add(document.id)
            yield document
