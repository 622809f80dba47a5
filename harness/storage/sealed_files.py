"""Seals of files in a work folder, which a later run takes up: each says what its file is, and how it has to look.

Invariant: what is taken up has the checksum that it was sealed with, under the name that it was sealed under.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.files import read_sealed, set_aside, write_sealed
from harness.storage.checksums import computed_digest

_SUFFIX = ".seal"


def seal(path: Path, about: Mapping[str, Any]) -> None:
    """Seal a file that is whole, with what is known about it."""
    write_sealed(_seal(path), {"of": _name(path), "sha256": computed_digest(path), "about": dict(about)})


def sealed_in(folder: Path) -> list[Path]:
    """The files of a work folder that were sealed, in order, whether or not they are still there."""
    return [path.with_name(path.name[1:].removesuffix(_SUFFIX)) for path in sorted(folder.glob(f".*{_SUFFIX}"))]


def sealed_damage(path: Path) -> str | None:
    """The reason why a file of a work folder is not as it was sealed, naming it; None if it is."""
    if not path.exists():
        return f"{path} is missing"
    why = _why_not(path, read_sealed(_seal(path)))
    return why and f"{path} is damaged ({why})"


def take_up(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Read what a file was sealed with; None if it is not there, or damaged: then it is set aside.

    Args:
        path: of the file.
        say: told of the damage.
    """
    if not path.exists():
        return None
    entry = read_sealed(_seal(path))
    if (why := _why_not(path, entry)) is None:
        return dict(entry["about"])
    say(f"{path}, left by a run that was broken off, is set aside ({why}); it is made again")
    if path.is_dir():
        set_aside(path, path.parents[1])  # somebody's, where it becomes no part of what is made here
    else:
        path.replace(path.with_name(f".{path.name}.damaged"))
    return None


def sealed_digest(path: Path) -> str:
    """The sha256 of a file that was sealed here or taken up, as its seal has it."""
    return str(read_sealed(_seal(path))["sha256"])


def _why_not(path: Path, entry: Mapping[str, Any]) -> str | None:
    if entry.get("of") != _name(path):
        return "it has no valid seal"
    if not path.is_file():
        return "it is no file"
    return None if entry["sha256"] == computed_digest(path) else "its checksum differs"


def _seal(path: Path) -> Path:
    return path.with_name(f".{path.name}{_SUFFIX}")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
