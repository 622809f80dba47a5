"""Which documents are for fitting and which for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from harness.contracts import Document


def in_split(document_id: str, split: str, evaluation_share: float) -> bool:
    """Whether a document belongs to a split: decided by its id alone, so that splits stay disjoint for ever."""
    digest = hashlib.blake2b(f"split/{document_id}".encode(), digest_size=8).digest()
    is_evaluation = int.from_bytes(digest, "big") / 2**64 < evaluation_share
    return is_evaluation == (split == "evaluation")


def documents_in_split(documents: Iterable[Document], split: str, evaluation_share: float) -> Iterator[Document]:
    """The documents of a split; a text that comes twice is taken once."""
    seen: set[str] = set()
    for document in documents:
        if in_split(document.id, split, evaluation_share) and document.id not in seen:
            seen.add(document.id)
            yield document
