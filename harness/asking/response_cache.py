"""Answers of judges on disk: nothing that was answered is asked again, whatever happened since.

One SQLite file, in which a row is a request that was answered, or refused for good; failures that may pass are not
kept. Its key is the hash of all that the answer depends on: the judge as a plan names it (plugin, version, parameters
or what they stand for) and the request. Each answer is committed as it comes, and several processes may write at once.

Where a judge's parameters, as a plan names them, have one that is called as a kind of request (`EmbedText`, say), the
answers to this kind depend on what that holds, in place of parameters of the same names; and those to others do not.

Beside the answers lies a ledger: what each request took that was sent, and which suite had it asked. A copy of the file
is a recording: `Recording` reads the answers of one judge from it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock

from harness.asking.reservations import Reservations
from harness.contracts.requests import Bounded, Choose, EmbedText, Failure, Generate, Likelihood
from harness.contracts.spending import NOTHING, Usage
from harness.errors import ConfigError
from harness.planning.keys import canonical_json
from harness.storage.filesystem import is_shared

FILE = "responses.sqlite"
_KINDS = {kind.__name__ for kind in (Choose, EmbedText, Generate, Likelihood)}
_REFUSED = "refused"
"""The key of the reason in what is stored of a failure; answers are texts or lists."""
_BOUNDED, _AT_MOST = "log_probabilities", "at_most"
"""Keys of what is stored of log-probabilities some of which are bounds."""
_SECONDS_TO_WAIT = 60  # for another process that writes
_TABLE = """
create table if not exists responses (key text primary key, judge text not null, request text not null,
response text not null, created_at text not null default current_timestamp) without rowid
"""
# Of its own, so that files from before there was a ledger go on working; a request that failed may have cost too.
_LEDGER = """
create table if not exists ledger (key text not null, suite text not null, kind text not null,
n_requests integer not null, n_prompt_tokens integer not null, n_answer_tokens integer not null,
n_estimated integer not null, usd real, asked_at text not null default current_timestamp)
"""


class ResponseCache:
    """The answers of one judge.

    Args:
        folder: where the file lies; made if it is not there.
        judge: what the judge's answers depend on, as JSON.
        suite: on whose behalf it is asked, for the ledger.
    """

    def __init__(self, folder: Path, judge: Mapping[str, Any], suite: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._judge = canonical_json(judge)
        self._suite = suite
        self._file = sqlite3.connect(folder / FILE, timeout=_SECONDS_TO_WAIT, isolation_level=None)
        with filelock.FileLock(folder / f".{FILE}.lock"):  # SQLite itself does not wait for a change of journal
            # A log beside the file is the quickest, but its index is memory that machines don't share.
            self._file.execute(f"pragma journal_mode = {'truncate' if is_shared(folder) else 'wal'}")
        # What a power cut takes are answers, never the file; a process that dies loses nothing.
        self._file.execute("pragma synchronous = normal")
        self._file.execute(_TABLE)
        self._file.execute(_LEDGER)
        self.reservations = Reservations(self._file, suite)

    def find(self, request: Any) -> Any | None:
        """The response: as JSON, Bounded, or the Failure that was final; None where there is none."""
        return _find(self._file, self._judge, request)

    def keep(self, request: Any, response: Any, usage: Usage = NOTHING, usd: float | None = None) -> None:
        """Store a response and its usage. Where another process was quicker, its response stays."""
        kept = response
        if isinstance(response, Failure):
            kept = {_REFUSED: response.reason}
        elif isinstance(response, Bounded):
            kept = {_BOUNDED: list(response), _AT_MOST: list(response.at_most)}
        with self.at_once():
            self._file.execute(
                "insert or ignore into responses (key, judge, request, response) values (?, ?, ?, ?)",
                [_key(self._judge, request), self._judge, _spelt(request), canonical_json(kept)],
            )
            self.charge(request, usage, usd)

    def charge(self, request: Any, usage: Usage, usd: float | None) -> None:
        """Add the usage of a request to the ledger, if it took anything."""
        if usage.n_requests:
            self._file.execute(
                "insert into ledger (key, suite, kind, n_requests, n_prompt_tokens, n_answer_tokens, n_estimated, usd) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                [_key(self._judge, request), self._suite, type(request).__name__, *vars(usage).values(), usd],
            )

    def spent(self) -> tuple[Usage, float]:
        """Usage of this suite so far, in all its runs, and its price in US dollars as far as known."""
        columns = "sum(n_requests), sum(n_prompt_tokens), sum(n_answer_tokens), sum(n_estimated), sum(usd)"
        query = f"select {columns} from ledger where suite = ?"  # noqa: S608  # fixed words
        *counts, usd = self._file.execute(query, [self._suite]).fetchone()
        return Usage(*(count or 0 for count in counts)), usd or 0.0

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __del__(self) -> None:
        self.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let no other process write inside the `with` block; what is written in it is there as a whole, or not."""
        if self._file.in_transaction:
            yield
            return
        self._file.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._file.execute("rollback")
            raise
        self._file.execute("commit")


class Recording:
    """The answers of one judge in a file that is only read.

    Args:
        path: `responses.sqlite` of a cache, or a copy of it.
        judge: what tells the judge from others in the file: a part of its description there, such as a model's name.
            Not needed where the file has one.

    Raises:
        ConfigError: there is no such file, or not one such judge in it.
    """

    def __init__(self, path: str, judge: str | None = None) -> None:
        if not Path(path).is_file():
            raise ConfigError(f"recording: there is no file {path!r} (working folder: {Path.cwd()}).")
        self._address = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
        try:
            found = [row[0] for row in self._read("select distinct judge from responses order by judge")]
        except sqlite3.Error as error:
            raise ConfigError(f"recording: {path!r} can't be read ({error}). Name a responses.sqlite.") from None
        fitting = [own for own in found if judge is None or judge in own]
        if len(fitting) != 1:
            raise ConfigError(
                f"recording: {len(fitting)} judges of {path!r} fit {judge!r}; name one by a part of its description. "
                f"There are: {'; '.join(found) or 'none'}."
            )
        self._judge = fitting[0]

    @property
    def judge(self) -> Any:
        """Everything that the recorded judge's answers depend on."""
        return json.loads(self._judge)

    def find(self, request: Any) -> Any | None:
        """The response: as JSON, Bounded, or the Failure that was final; None where there is none."""
        with closing(self._open()) as file:
            return _find(file, self._judge, request)

    def _read(self, query: str) -> list[Any]:
        with closing(self._open()) as file:
            return file.execute(query).fetchall()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._address, uri=True, timeout=_SECONDS_TO_WAIT)


def _find(file: sqlite3.Connection, judge: str, request: Any) -> Any | None:
    found = file.execute("select response from responses where key = ?", [_key(judge, request)]).fetchone()
    response = None if found is None else json.loads(found[0])
    if isinstance(response, dict) and _BOUNDED in response:
        return Bounded(response[_BOUNDED], response[_AT_MOST])
    return Failure(response[_REFUSED], transient=False) if isinstance(response, dict) else response


def _key(judge: str, request: Any) -> str:
    return hashlib.sha256(f"{_asked(judge, type(request).__name__)}\n{_spelt(request)}".encode()).hexdigest()


@functools.lru_cache
def _asked(judge: str, kind: str) -> str:
    """Everything that the answers to one kind of request depend on, as JSON."""
    whole = json.loads(judge)
    parameters = whole.get("parameters") if isinstance(whole, dict) else None
    if not isinstance(parameters, dict) or not parameters.keys() & _KINDS:
        return judge
    common = {name: value for name, value in parameters.items() if name not in _KINDS}
    return canonical_json(whole | {"parameters": common | parameters.get(kind, {})})


def _spelt(request: Any) -> str:
    """A request of any kind as JSON."""
    return canonical_json({"kind": type(request).__name__, **asdict(request)})
