"""Texts in local files, streamed: no file but a `.txt` is ever held whole.

Invariant: the documents depend on the contents and relative order of the files, not on where they lie.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
from harness.plugins.corpora import FilesConfig, folders
from harness.plugins.corpora.documents import LABELS_VERSION, Labelled, distinct_documents, read_record

_PARQUET_BATCH_ROWS = 1024


class FilesCorpus:
    """One document per `.txt` file, `.jsonl` line or `.parquet` row, in file order."""

    def __init__(self, config: FilesConfig) -> None:
        self._config = config
        found = folders.find(config.paths)
        self._files = found.files
        if found.omission:
            warnings.warn(f"corpus/files: {found.omission}", stacklevel=2)

    def documents(self) -> Iterator[harness.Document]:
        yield from distinct_documents(
            labelled for path in self._files for labelled in _READERS[folders.format_of(path)](path, self._config)
        )


def identity(config: FilesConfig) -> dict[str, Any]:
    """Checksums in order, with what decides how the files are read."""
    files = [[folders.format_of(path), harness.file_digest(path)] for path in folders.find(config.paths).files]
    labels = {"labels_version": LABELS_VERSION} if config.label_fields else {}
    return {"files": files, "text_field": config.text_field, "label_fields": config.label_fields, **labels}


def _read_txt(path: Path, config: FilesConfig) -> Iterator[Labelled]:
    yield Labelled(_decode(path.read_bytes(), str(path)), {})


def _read_jsonl(path: Path, config: FilesConfig) -> Iterator[Labelled]:
    with path.open("rb") as file:  # in bytes, so that a line that is not UTF-8 can be named
        for number, line in enumerate(file, start=1):
            where = f"{path} line {number}"
            text = _decode(line, where).strip()
            if not text:
                continue
            try:
                record = json.loads(text)
            except json.JSONDecodeError as error:
                raise harness.ConfigError(f"{where}: not JSON: {error.msg} at column {error.colno}.") from error
            if not isinstance(record, dict):
                raise harness.ConfigError(f"{where}: a JSON {type(record).__name__}; each line must hold an object.")
            yield read_record(record, config.text_field, config.label_fields, where)


def _read_parquet(path: Path, config: FilesConfig) -> Iterator[Labelled]:
    import pyarrow  # takes 0.2 s, which plans (they ask for the identity only) should not pay
    import pyarrow.parquet

    columns = [config.text_field, *config.label_fields]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                names = ", ".join(file.schema_arrow.names)
                raise harness.ConfigError(f"{path}: no column {missing[0]!r}. Columns: {names}.")
            number = 0
            for batch in file.iter_batches(_PARQUET_BATCH_ROWS, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield read_record(record, config.text_field, config.label_fields, f"{path} row {number}")
    except pyarrow.ArrowInvalid as error:
        raise harness.ConfigError(f"{path}: not a parquet file, or a damaged one: {error}") from error


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")  # Windows programs put a byte order mark in front, which is no text
    except UnicodeDecodeError as error:
        raise harness.ConfigError(
            f"{where}: not UTF-8 (byte {data[error.start]:#04x} at {error.start}). Convert it, with iconv for instance."
        ) from error


_READERS: dict[str, Callable[[Path, FilesConfig], Iterator[Labelled]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
