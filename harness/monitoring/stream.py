"""The texts of a stream: a file or the standard input, one document a line, as text or as JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from harness.errors import ConfigError

STANDARD_INPUT = "-"
_JSON_SUFFIX = ".jsonl"


def texts_of(name: str, lines: Iterable[bytes], text_field: str) -> Iterator[str]:
    """The documents in lines; blank ones are none.

    Lines are JSON objects in a `.jsonl` file, and elsewhere if the first one begins with a brace.

    Raises:
        ConfigError: a line is not UTF-8, or not JSON with the field; it is named.
    """
    is_json: bool | None = name.endswith(_JSON_SUFFIX) or None
    for number, line in enumerate(lines, start=1):
        where = f"stream {name} line {number}"
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{where}: not UTF-8 (byte {line[error.start]:#04x}). Convert it, with iconv.") from error
        if not text:
            continue
        is_json = text.startswith("{") if is_json is None else is_json
        found = _of_json(text, text_field, where) if is_json else text
        if found.strip():
            yield found


def batches(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    """The texts, so many at a time; the last ones may be fewer."""
    while batch := list(itertools.islice(texts, size)):
        yield batch


def opened(name: str, standard_input: IO[bytes]) -> IO[bytes]:
    """The lines of a stream, in bytes, so that one that is not UTF-8 can be named."""
    if name == STANDARD_INPUT:
        return standard_input
    if not Path(name).is_file():
        raise ConfigError(
            f"stream: {name!r} is no file. Give one with a document in each line, or - to read from a pipe."
        )
    return Path(name).open("rb")


def _of_json(line: str, text_field: str, where: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {error}.") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{where}: a JSON {type(record).__name__}; each line must hold an object.")
    if text_field not in record:
        raise ConfigError(f"{where}: no field {text_field!r}. Fields: {', '.join(record)}. Set text_field.")
    if not isinstance(record[text_field], str):
        raise ConfigError(f"{where}: field {text_field!r} holds {type(record[text_field]).__name__}, not text.")
    return str(record[text_field])
