"""Seals of files in a work folder, which a later run takes up: each says what its file is, and how it has to look.

Invariant: what is taken up has the checksum that it was sealed with, under the name that it was sealed under.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.files import read_sealed, write_sealed
from harness.storage.checksums import computed_digest


def seal(path: Path, about: Mapping[str, Any]) -> None:
    """Seal a file that is whole, with what is known about it."""
    write_sealed(_seal(path), {"of": _name(path), "sha256": computed_digest(path), "about": dict(about)})


def take_up(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Read what a file was sealed with; None if it is not there, or damaged: then it is set aside.

    Args:
        path: of the file.
        say: told of the damage.
    """
    if not path.exists():
        return None
    entry, why = read_sealed(_seal(path)), "it has no valid seal"
    if entry.get("of") == _name(path):
        if entry["sha256"] == computed_digest(path):
            return dict(entry["about"])
        why = "its checksum differs"
    say(f"{path}, left by a run that was broken off, is set aside ({why}); it is made again")
    path.replace(path.with_name(f".{path.name}.damaged"))
    return None


def sealed_digest(path: Path) -> str:
    """The sha256 of a file that was sealed here or taken up, as its seal has it."""
    return str(read_sealed(_seal(path))["sha256"])


def _seal(path: Path) -> Path:
    return path.with_name(f".{path.name}.seal")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
