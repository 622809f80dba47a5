"""Documents made of texts and their labels, in the same way for all corpora.

Invariant: no document is blank and no two of a corpus have the same text, for rows are told apart by document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import harness

LABELS_VERSION = 2
"""Raised when labels are read otherwise; part of the identity of corpora that read some."""


class Labelled(NamedTuple):
    """A text and its labels."""

    text: str
    labels: Mapping[str, str]


def distinct_documents(texts: Iterable[Labelled]) -> Iterator[harness.Document]:
    """The texts as documents, without blank and repeated ones; the first of equal texts stays."""
    seen: set[str] = set()
    for text, labels in texts:
        document = harness.document_id(text)
        if text.strip() and document not in seen:
            seen.add(document)
            yield harness.Document(document, text, labels)


def read_record(record: Mapping[str, Any], text_field: str, label_fields: Sequence[str], where: str) -> Labelled:
    """Text and labels of one record of a file or dataset; a text that is null is a blank one.

    Raises:
        harness.ConfigError: a field is missing, or holds what is neither text nor, for labels, a number. `where` names
            the record.
    """
    for name in (text_field, *label_fields):
        if name not in record:
            raise harness.ConfigError(f"{where}: no field {name!r}. Fields: {', '.join(map(str, record))}.")
    text = record[text_field]
    if not isinstance(text, str | None):
        raise harness.ConfigError(f"{where}: field {text_field!r} holds {_short(text)}, not text. Set text_field.")
    labels = {}
    for name in label_fields:
        value = record[name]
        if not isinstance(value, str | int | float | None):
            raise harness.ConfigError(f"{where}: field {name!r} holds {_short(value)}, which can't be a label.")
        if value is not None and value == value:  # NaN is how tables without nulls say that there is none
            # A column of whole numbers becomes one of others where one is missing: 1 and 1.0 are one label.
            labels[name] = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return Labelled(text or "", labels)


def _short(value: object) -> str:
    return f"{type(value).__name__} {repr(value)[:40]}"
