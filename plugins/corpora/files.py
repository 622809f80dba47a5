"""Texts in local files, streamed: no file but a `.txt` is ever held whole.

Invariant: the documents depend on the contents and relative order of the files, not on where they lie.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
from harness.plugins.corpora import FilesConfig
from harness.plugins.corpora.documents import Labelled, distinct_documents, read_record

_PARQUET_BATCH_ROWS = 1024


class FilesCorpus:
    """One document per `.txt` file, `.jsonl` line or `.parquet` row, in file order."""

    def __init__(self, config: FilesConfig) -> None:
        self._config = config
        self._files = find_files(config.paths)

    def documents(self) -> Iterator[harness.Document]:
        yield from distinct_documents(
            labelled for path in self._files for labelled in _READERS[path.suffix](path, self._config)
        )


def identity(config: FilesConfig) -> dict[str, Any]:
    """Checksums in order, with what decides how the files are read."""
    files = [[path.suffix, harness.file_digest(path)] for path in find_files(config.paths)]
    return {"files": files, "text_field": config.text_field, "label_fields": config.label_fields}


def find_files(entries: list[str]) -> list[Path]:
    """The files behind paths, folders and globs: sorted within each entry, each file once.

    Raises:
        harness.ConfigError: an entry leads to no file, or to one of an unknown format.
    """
    found: dict[Path, None] = {}
    problems = []
    for number, entry in enumerate(entries):
        files = _expand(Path(entry).expanduser())
        if not files:
            problems.append(
                f"corpus/files.paths[{number}]: {entry!r} matches no file that ends in {', '.join(_READERS)} "
                f"(working folder: {Path.cwd()})."
            )
        problems += [
            f"corpus/files.paths[{number}]: {str(path)!r} ends in none of {', '.join(_READERS)}. Convert or rename it."
            for path in files
            if path.suffix not in _READERS
        ]
        found |= dict.fromkeys(path.absolute() for path in files)
    if problems:
        raise harness.ConfigError(problems)
    return list(found)


def _expand(path: Path) -> list[Path]:
    if path.is_file():  # asked first: a file's name may hold the characters of a glob
        return [path]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and file.suffix in _READERS)
    matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207  # Path.glob refuses absolute patterns
    return sorted(match for match in matches if match.is_file())


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
