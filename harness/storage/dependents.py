"""The results folders that rest on a cache: each run writes down its own, with the artefacts that its plan needs.

So `harness gc` keeps what suites in other folders and on other machines need, and has not to read them.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StoreError
from harness.files import read_json, write_json
from harness.planning.keys import content_key
from harness.storage.store import Store

_FOLDER = "results"


@dataclass(frozen=True)
class Dependent:
    """A results folder whose suite has run with a cache."""

    entry: Path
    """The file in the cache that says so."""
    results: Path
    host: str
    """The machine that it was run on: the folder may be out of sight of others."""
    artefacts: Collection[str]
    """Keys of the artefacts of its plan, as it was run last."""

    @property
    def is_gone(self) -> bool:
        """True if it was on this machine, where the folder around it is still there."""
        return not self.results.is_dir() and self.host == socket.gethostname() and self.results.parent.is_dir()


def write_down(store: Store, artefacts: Collection[str]) -> None:
    """Write down what a results folder needs. In a cache that can't be written nothing is freed either."""
    entry = store.cache / _FOLDER / f"{content_key(str(store.results))}.json"
    needs = {"results": str(store.results), "host": socket.gethostname(), "artefacts": sorted(artefacts)}
    with suppress(StoreError):
        write_json(entry, needs)


def dependents(cache: Path) -> Iterator[Dependent]:
    """The results folders that were written down, gone ones too."""
    for entry in sorted((cache / _FOLDER).glob("*.json")):
        found = read_json(entry)
        try:
            yield Dependent(entry, Path(found["results"]), str(found["host"]), frozenset(found["artefacts"]))
        except (KeyError, TypeError):  # it is not what was written; the suite's next run writes it anew
            continue
