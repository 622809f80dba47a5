"""What judges have answered, on disk: nothing that was answered is asked again, whatever happened since.

One SQLite file, in which a row is a request that was answered; failures are not kept. Its key is the hash of all that
the answer depends on: the judge as a plan names it (plugin, version, parameters or what they stand for) and the
request. Each answer is committed as it comes, and several processes may write at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.keys import canonical_json

_SECONDS_TO_WAIT = 60  # for another process that writes
_TABLE = """
create table if not exists responses (key text primary key, judge text not null, request text not null,
response text not null, created_at text not null default current_timestamp) without rowid
"""


class ResponseCache:
    """The answers of one judge.

    Args:
        folder: where the file lies; made if it is not there.
        judge: what the judge's answers depend on, as JSON.
    """

    def __init__(self, folder: Path, judge: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._judge = canonical_json(judge)
        self._file = sqlite3.connect(folder / "responses.sqlite", timeout=_SECONDS_TO_WAIT, isolation_level=None)
        self._file.execute("pragma journal_mode = wal")
        # What a power cut takes are answers, never the file; a process that dies loses nothing.
        self._file.execute("pragma synchronous = normal")
        self._file.execute(_TABLE)

    def find(self, request: Any) -> Any | None:
        """The response as JSON, None where there is none."""
        found = self._file.execute("select response from responses where key = ?", [self._key(request)]).fetchone()
        return None if found is None else json.loads(found[0])

    def keep(self, request: Any, response: Any) -> None:
        """Store what was answered. Where another process was quicker, its answer stays."""
        self._file.execute(
            "insert or ignore into responses (key, judge, request, response) values (?, ?, ?, ?)",
            [self._key(request), self._judge, _spelt(request), canonical_json(response)],
        )

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __del__(self) -> None:
        self.close()

    def _key(self, request: Any) -> str:
        return hashlib.sha256(f"{self._judge}\n{_spelt(request)}".encode()).hexdigest()


def _spelt(request: Any) -> str:
    """A request of any kind as JSON."""
    return canonical_json({"kind": type(request).__name__, **asdict(request)})
