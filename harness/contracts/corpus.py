"""Corpora: sources of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Document:
    """One text of a corpus. The id is stable: for plain texts, the first 16 hex digits of its sha256."""

    id: str
    text: str
    labels: Mapping[str, str] = field(default_factory=dict)


def document_id(text: str) -> str:
    """The stable id of a plain text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Corpus(Protocol):
    """A source of texts."""

    def documents(self) -> Iterable[Document]:
        """Give every document, in the same order each time."""
        ...
