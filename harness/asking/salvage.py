"""Salvage of a damaged file of answers: what can be read of it, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.asking.answer_rows import is_whole

# What every header of ours says: https://www.sqlite.org/fileformat2.html#the_database_header
_MAGIC = b"SQLite format 3\x00\x10\x00"
_AFTER_VERSIONS = b"\x00\x40\x20\x20"
_PAGE = 4096
ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""Errors of a damaged file: what SQLite says of it need not be UTF-8."""
_KEYS = [f"{number:03x}" for number in range(16**3)]
"""Beginnings of keys: around what can't be read of some, others can."""


def salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy what is whole from a damaged file to a new one; the number of answers.

    Rows of the ledger have no checksum: what is spent has a copy elsewhere, see `harness.asking.ledger`.
    """
    with suppress(OSError):
        _mend_header(damaged)
    address = f"file:{quote(str(damaged.absolute()))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as file:
        file.text_factory = lambda text: text.decode(errors="replace")
        into.execute("begin")
        for row in _answers(file):
            into.execute("insert or ignore into responses values (?, ?, ?, ?, ?)", row)
        for table, n_columns in (("ledger", 10), ("reservations", 5)):
            for row in _rows(file, f"select * from {table}"):  # noqa: S608  # fixed words
                whole = [*row, *[None] * n_columns][:n_columns]
                with suppress(sqlite3.Error):  # a column that must not be empty is
                    into.execute(f"insert into {table} values ({','.join('?' * n_columns)})", whole)  # noqa: S608
        into.execute("commit")
    (n_answers,) = into.execute("select count(*) from responses").fetchone()
    return int(n_answers)


def _answers(file: sqlite3.Connection) -> Iterator[Any]:
    for begin, end in zip(_KEYS, [*_KEYS[1:], "g"], strict=True):
        for row in _rows(file, "select * from responses where key >= ? and key < ?", (begin, end)):
            if is_whole(*row[:4]):
                yield row


def _rows(file: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
    """The rows up to the first that can't be read."""
    rows: Iterator[Any] = iter(())
    with suppress(*ERRORS):
        rows = file.execute(query, values)
    while True:
        try:
            row = next(rows)
        except (*ERRORS, StopIteration):
            return
        yield row


def _mend_header(path: Path) -> None:
    """Write the parts of the header anew that are the same in every file, and those that follow from its size."""
    with path.open("r+b") as file:
        head = bytearray(file.read(100))
        if len(head) < 100:
            return
        versions = bytes(head[18:20]) if bytes(head[18:20]) in (b"\x01\x01", b"\x02\x02") else b"\x02\x02"
        head[:24] = _MAGIC + versions + _AFTER_VERSIONS
        head[28:32] = (path.stat().st_size // _PAGE).to_bytes(4, "big")
        head[44:48], head[56:60], head[92:96] = b"\x00\x00\x00\x04", b"\x00\x00\x00\x01", head[24:28]
        file.seek(0)
        file.write(head)
