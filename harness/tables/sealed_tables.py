"""Checksums of the files of tables, which lie beside them: numbers that changed on a disk are compared with nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.files import read_sealed, write_sealed
from harness.storage.checksums import computed_digest

_FILE = ".checksums.json"


def seal_tables(folder: Path, names: Iterable[str]) -> None:
    """Write down the checksums of the files of these names in a folder."""
    write_sealed(folder / _FILE, {name: computed_digest(folder / name) for name in names})


def table_damage(folder: Path) -> str | None:
    """The damage to the tables in a folder, naming the file; None if there is none, or no checksums of them."""
    sealed = folder / _FILE
    if not sealed.exists():
        return None
    known = read_sealed(sealed)
    if not known:
        return f"{sealed} is damaged: its checksum differs"
    for path in (folder / name for name in known):
        if not path.exists():
            return f"{path} is missing"
        if computed_digest(path) != known[path.name]:
            return f"{path} is damaged: its checksum differs"
    return None
