"""Answers of judges on disk: nothing that was answered is asked again, whatever happened since.

One SQLite file, in which a row is a request that was answered, or refused for good; failures that may pass are not
kept. Its key is the hash of all that the answer depends on: the judge as a plan names it (plugin, version, parameters
or what they stand for) and the request. Each answer is committed as it comes, and several processes may write at once.
Each has a checksum: one that is not as it was is asked again.

Where a judge's parameters, as a plan names them, have one that is called as a kind of request (`EmbedText`, say), the
answers to this kind depend on what that holds, in place of parameters of the same names; and those to others do not.

Code of a plugin file may change what a judge of the harness computes in the same process. What is answered there is
kept apart, under the file's name, for cells that use the file; these find the answers of all others, too.

Beside the answers lies a ledger: what each request took that was sent, and which suite had it asked. A copy of the file
is a recording: `Recording` reads the answers of one judge from it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from harness.asking.answer_file import SECONDS_TO_WAIT, AnswerFile
from harness.asking.answer_rows import DamagedAnswer, is_whole, key_of, packed, spelt, unpacked
from harness.asking.ledger import Ledger
from harness.asking.reservations import Reservations
from harness.asking.salvage import ERRORS
from harness.contracts.spending import NOTHING, Usage
from harness.errors import ConfigError, StoreError
from harness.planning.keys import canonical_json

FILE = "responses.sqlite"
_FIND = "select response from responses where key = ?"
_T = TypeVar("_T")


class ResponseCache:
    """The answers of one judge.

    Args:
        folder: where the file lies; made if it is not there.
        judge: what the judge's answers depend on, as JSON.
        suite: on whose behalf it is asked, for the ledger.
        warn: told what was damaged.
        beside: names of the plugin files whose code may change what the judge answers.
    """

    def __init__(
        self,
        folder: Path,
        judge: Mapping[str, Any],
        suite: str = "",
        warn: Callable[[str], None] = print,
        beside: Sequence[str] = (),
    ) -> None:
        self.n_damaged = 0
        """Answers that were found damaged, and are not there any more."""
        self._judge = canonical_json(judge)
        self._beside = tuple(beside)
        self._file = AnswerFile(folder / FILE, warn)
        self.ledger = Ledger(self._file, folder / "spent", suite, warn)
        self.reservations = Reservations(self._file, suite)

    def find(self, request: Any) -> Any | None:
        """The response: as JSON, Bounded, or the Failure that was final; None where there is none that is whole."""
        for key in dict.fromkeys((self._key(request), key_of(self._judge, request))):
            for (stored,) in self._file.execute(_FIND, [key]):
                try:
                    return unpacked(key, stored)
                except DamagedAnswer:
                    self._file.execute("delete from responses where key = ?", [key])
                    self.n_damaged += 1
        return None

    def keep(
        self, request: Any, response: Any, usage: Usage = NOTHING, usd: float | None = None, cell: str | None = None
    ) -> None:
        """Store a response and its usage. Where another process was quicker, its response stays."""
        key = self._key(request)

        def write() -> None:
            self._file.execute(
                "insert or ignore into responses (key, judge, request, response) values (?, ?, ?, ?)",
                [key, self._judge, spelt(request, self._beside), packed(key, response)],
            )
            self.charge(request, usage, usd, cell)

        self.at_once(write)

    def charge(self, request: Any, usage: Usage, usd: float | None, cell: str | None = None) -> None:
        """Add the usage of a request to the ledger, if it took anything."""
        if usage.n_requests:
            key, kind = self._key(request), type(request).__name__
            self.at_once(lambda: self.ledger.charge(key, kind, usage, usd, cell))

    def at_once(self, work: Callable[[], _T]) -> _T:
        """Do what no other process shall write in between; it may be done again, if the file turns out damaged."""
        return self._file.at_once(work)

    def _key(self, request: Any) -> str:
        return key_of(self._judge, request, self._beside)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __del__(self) -> None:
        self.close()


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
        self._path = path
        self._address = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
        try:
            found = [row[0] for row in self._read("select distinct judge from responses order by judge")]
            if len(found) > 1:
                found = [own for own in found if self._has_answers(own)]
        except ERRORS as error:
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
        """The response: as JSON, Bounded, or the Failure that was final; None where there is none.

        Raises:
            StoreError: the recording is damaged.
        """
        try:
            for beside in self._beside:
                key = key_of(self._judge, request, beside)
                for (stored,) in self._read(_FIND, key):
                    return unpacked(key, stored)
        except (*ERRORS, DamagedAnswer) as error:
            raise StoreError(f"recording: {self._path!r} is damaged ({error}). Take another copy of it.") from None
        return None

    @cached_property
    def _beside(self) -> list[list[str]]:
        """The plugin files beside which the judge has answered: none, and those of what was kept apart."""
        query = "select distinct json_extract(request, '$.beside') from responses where judge = ?"
        apart = self._read(query, self._judge)
        return [[], *(json.loads(files) for (files,) in apart if files)]

    def _has_answers(self, judge: str) -> bool:
        """True if one row of the judge is whole: in a damaged row its name may be another."""
        rows = self._read("select key, judge, request, response from responses where judge = ?", judge)
        return any(is_whole(*row) for row in rows)

    def _read(self, query: str, *values: str) -> list[Any]:
        with closing(sqlite3.connect(self._address, uri=True, timeout=SECONDS_TO_WAIT)) as file:
            file.text_factory = lambda text: text.decode(errors="replace")
            return file.execute(query, values).fetchall()
