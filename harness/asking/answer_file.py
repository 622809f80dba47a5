"""The file of judges' answers: opened, shared by processes, and set aside where it is damaged.

SQLite says that a file is damaged when it comes upon the damage. What can be read of the file then goes into a new one,
which takes its place, and what was about to be done is done there; the damaged one stays under another name. Processes
that have it open find another file in its place, and go on with that.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from harness.asking.salvage import ERRORS, salvage
from harness.errors import StoreError
from harness.files import set_aside
from harness.storage.filesystem import is_shared
from harness.storage.locks import file_lock

SECONDS_TO_WAIT = 60
"""Longest wait for another process that writes."""
_TABLES = """
create table if not exists responses (key text primary key, judge text not null, request text not null,
response text not null, created_at text not null default current_timestamp) without rowid;
create table if not exists ledger (key text not null, suite text not null, kind text not null,
n_requests integer not null, n_prompt_tokens integer not null, n_answer_tokens integer not null,
n_estimated integer not null, usd real, asked_at text not null default current_timestamp, cell text);
create table if not exists reservations (owner text not null, suite text not null, n_tokens real not null,
usd real not null, touched real not null)
"""
_NAMES = {"responses", "ledger", "reservations"}
_OF_THE_PLACE = {
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
}
"""Errors of rights, room, locks or the disk; what else goes wrong with fixed statements is the file's contents."""
_VERSIONS = (b"\x01\x01", b"\x02\x02", b"")
"""Bytes of the header that say who may write; other ones would make the file one that can only be read."""
_TRIES = 3
_T = TypeVar("_T")


class _Damage(sqlite3.DatabaseError):
    """Damage that SQLite looks over while it can."""


class AnswerFile:
    """An SQLite file with the tables of answers, ledger and reservations.

    Args:
        path: the file; it and its folder are made if they are not there.
        warn: told when the file was damaged.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._lock = file_lock(path.with_name(f".{path.name}.lock"))
        self._file: sqlite3.Connection | None = None
        self._number: int | None = None
        """The inode of the file that is open."""

    def execute(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a statement gives."""
        return self.at_once(lambda: self._opened().execute(query, values).fetchall(), is_whole=True)

    def at_once(self, work: Callable[[], _T], is_whole: bool = False) -> _T:
        """Do what no other process shall write in between; what is written in it is there as a whole, or not.

        Where the file turns out damaged it is done again.

        Args:
            work: what to do.
            is_whole: it is one statement, which is a whole by itself.
        """
        if self._file is not None and self._file.in_transaction:
            return work()
        for number in range(_TRIES):
            try:
                if self._file is None or self._has_moved():
                    self._open()
                if is_whole:
                    return work()
                with self._transaction():
                    return work()
            except ERRORS as error:
                if number == _TRIES - 1 or not (self._has_moved() or _is_damage(error)):
                    raise self._refused(error) from error
                self._set_aside(error)
        raise AssertionError("the last try returns or raises")

    @property
    def was_damaged(self) -> bool:
        """True if a file of this name was ever set aside, and still lies there."""
        return any(self._path.parent.glob(f"{self._path.name}.damaged-*"))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _opened(self) -> sqlite3.Connection:
        assert self._file is not None, "opened by at_once()"
        return self._file

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        file = self._opened()
        file.execute("begin immediate")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # it may be that nothing is under way any more
                file.execute("rollback")
            raise
        file.execute("commit")

    def _open(self) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:  # SQLite itself does not wait for a change of journal
            if not self._path.exists():
                _make(self._path)  # SQLite would do so later
            self._file, self._number = _connected(self._path), self._path.stat().st_ino
            # A log beside the file is the quickest, but its index is memory that machines don't share.
            _prepare(self._file, "truncate" if is_shared(self._path.parent) else "wal")

    def _has_moved(self) -> bool:
        """True where another process has put another file in the place of the one that is open."""
        try:
            return self._number != self._path.stat().st_ino
        except FileNotFoundError:
            return True

    def _set_aside(self, error: Exception) -> None:
        """Give the file another name, and put a new one with what can be read of it in its place."""
        self.close()
        aside = f"{self._path}.damaged-{secrets.token_hex(4)}"
        with self._lock:
            if self._has_moved():
                return
            try:
                for end in ("-wal", ""):
                    _link(f"{self._path}{end}", f"{aside}{end}")
                n_saved = self._replace_by_what_is_whole_in(Path(aside))
            except BaseException as second:  # no room, say: all is as before
                for end in ("-wal", "-shm", ""):
                    Path(f"{aside}{end}").unlink(missing_ok=True)
                if isinstance(second, ERRORS):
                    raise self._refused(second) from second
                raise
        self._warn(
            f"the answers of judges in {self._path} are damaged ({error}). The file is set aside as "
            f"{Path(aside).name}; {n_saved:,} answers of it are saved, and others are asked again."
        )

    def _replace_by_what_is_whole_in(self, damaged: Path) -> int:
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            _make(new)  # SQLite would give it other permissions than the umask says
            with closing(_connected(new)) as file:
                _prepare(file, "delete")  # one file, which a rename moves as a whole
                n_saved = salvage(damaged, file)
            for end in ("-wal", "-shm"):
                Path(f"{self._path}{end}").unlink(missing_ok=True)
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)
        return n_saved

    def _refused(self, error: Exception) -> StoreError:
        return StoreError(
            f"the answers of judges in {self._path} can't be read or written: {error}. There must be room, the right "
            "to write, and no other process that keeps it for a minute."
        )


def _make(path: Path) -> None:
    """Make an empty file, also where a link stands that leads to itself."""
    try:
        path.touch()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        set_aside(path)
        path.touch()


def _link(path: str, other: str) -> None:
    """Give a file, if it is there, a second name; a copy of it where the disk knows no such names."""
    try:
        os.link(path, other)
    except FileNotFoundError:
        return
    except OSError:
        shutil.copyfile(path, other)


def _connected(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=SECONDS_TO_WAIT, isolation_level=None)
    file.text_factory = lambda text: text.decode(errors="replace")  # what is not UTF-8 fits no checksum
    return file


def _prepare(file: sqlite3.Connection, journal: str) -> None:
    """Set how a file is written, and make the tables that it lacks.

    Raises:
        sqlite3.DatabaseError: it is damaged, or can't be written.
    """
    path = Path(file.execute("pragma database_list").fetchone()[2])
    with path.open("rb") as content:
        if content.read(20)[18:] not in _VERSIONS:
            raise _Damage("its header has other versions")
    file.execute(f"pragma journal_mode = {journal}")
    # What a power cut takes are answers, never the file; a process that dies loses nothing.
    file.execute("pragma synchronous = normal")
    names = {name for (name,) in file.execute("select name from sqlite_master where type = 'table'")}
    if strange := [name for name in names - _NAMES if not name.startswith("sqlite_")]:
        raise _Damage(f"it has the tables {', '.join(strange)}")
    (found,) = file.execute("pragma integrity_check(1)").fetchone()  # 0.1 s for 100 MB
    if found != "ok":
        raise _Damage(found)
    for table in _TABLES.split(";"):
        file.execute(table)
    if "cell" not in [column for _, column, *_ in file.execute("pragma table_info(ledger)")]:
        file.execute("alter table ledger add column cell text")  # files from before costs were told by cell


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError | _Damage):
        return True
    code = getattr(error, "sqlite_errorcode", None)  # Python's own errors have none
    return code is not None and code & 0xFF not in _OF_THE_PLACE
