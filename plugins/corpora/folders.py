"""Files behind paths, folders and globs. What a folder holds besides is named, never passed over in silence."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import harness

FORMATS = (".txt", ".jsonl", ".parquet")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".z", ".br", ".zip", ".7z", ".rar", ".tar", ".tgz", ".tbz2")
_MAX_NAMED = 5


def format_of(path: Path) -> str:
    """The ending that says how a file is read: `.txt` of `A.TXT` too."""
    return path.suffix.lower()


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


@dataclass
class Found:
    """The files that paths lead to, and the others that lie there."""

    files: list[Path] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    """Entries of folders that are not read: hidden, broken or of another format."""

    @property
    def omission(self) -> str:
        """A sentence about what is left out; nothing where all is read."""
        if not self.left_out:
            return ""
        names = listed(list(map(str, self.left_out)))
        return f"Not read, as hidden, no file, or of another format than {', '.join(FORMATS)}: {names}."


def find(entries: Sequence[str]) -> Found:
    """The files behind paths, folders and globs: sorted within each entry, each file once.

    Folders are searched through, those behind links too, but not hidden ones.

    Raises:
        harness.ConfigError: an entry leads to no file, to a packed one, or itself names one of an unknown format.
    """
    found, problems = Found(), []
    for number, entry in enumerate(entries):
        where, own = f"corpus/files.paths[{number}]", Found()
        for path in _expand(Path(entry).expanduser()):
            own.files += [path] if path.is_file() else []
            if path.is_dir():
                _search(path, own)
        if not own.files:
            problems.append(
                f"{where}: {entry!r} matches no file that ends in {', '.join(FORMATS)} "
                f"(working folder: {Path.cwd()}). {own.omission}".rstrip()
            )
        for path in own.files:
            if format_of(path) in _PACKED:
                problems.append(f"{where}: {str(path)!r} is packed. Unpack it, or name the files beside it alone.")
            elif format_of(path) not in FORMATS:
                problems.append(f"{where}: {str(path)!r} ends in none of {', '.join(FORMATS)}. Convert or rename it.")
        found.files += sorted(own.files)
        found.left_out += own.left_out
    if problems:
        raise harness.ConfigError(problems)
    return Found(list(dict.fromkeys(path.absolute() for path in found.files)), sorted(set(found.left_out)))


def _expand(path: Path) -> list[Path]:
    if path.exists():  # asked first: a file's name may hold the characters of a glob
        return [path]
    return list(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207  # Path.glob refuses absolute patterns


def _search(folder: Path, found: Found) -> None:
    """Add what lies in a folder and below it."""
    for path in below(folder):
        if path.name.startswith(".") or not path.is_file() or format_of(path) not in (*FORMATS, *_PACKED):
            found.left_out.append(path)
        else:
            found.files.append(path)


def below(folder: Path) -> Iterator[Path]:
    """All files below a folder, those behind links too, and the hidden folders themselves; each folder once."""
    seen: set[str] = set()
    for top, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(hidden)) if (real := os.path.realpath(top)) not in seen else []
        if real not in seen:
            seen.add(real)
            yield from (Path(top, name) for name in sorted([*hidden, *names]))


def _refuse(error: OSError) -> None:
    raise harness.ConfigError(f"corpus/files: can't search {error.filename}: {error.strerror}.") from error
