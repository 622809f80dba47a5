"""Corpora: sources of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Document:
    """One text of a corpus."""

    id: str
    """A stable id, by which documents are split and rows are matched: of a plain text, `document_id` of it."""
    text: str
    """The text, not blank."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Facts about it by name, such as `{"topic": "law"}`, which evaluations may ask for."""


def document_id(text: str) -> str:
    """The stable id of a plain text: the first 16 hex digits of its sha256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Corpus(Protocol):
    """A source of texts."""

    def documents(self) -> Iterable[Document]:
        """Give every document, in the same order each time."""
        ...
