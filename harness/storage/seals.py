"""Seals of folders that plugins make in the cache, such as converted models: nothing in them is read unchecked.

A seal lists the files of a folder with their checksums. Reading all of them takes a small part of the time in which a
model is loaded, so a process does it whenever it uses a folder that it has not seen as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.storage.manifests import damages, list_files, read_manifest, visible_files, write_manifest
from harness.storage.store import discarded_name

SEAL = ".seal"
_found_whole: dict[tuple[Path, str], list[tuple[str, int, int, int, int]]] = {}
"""The stamps of the files that this process has read and found as they were sealed."""


def seal_folder(folder: Path, name: str) -> None:
    """List the files of a folder with their checksums, for `folder_damage` to compare.

    Args:
        folder: with all that belongs in it; it may be renamed afterwards.
        name: tells it from others, so that one in the place of another is found.
    """
    write_manifest(folder / SEAL, {"name": name, "files": list_files(folder)})


def folder_damage(folder: Path, name: str) -> str | None:
    """The reason for which a folder is not as it was sealed under a name, naming a file; None if it is.

    All files are read, once in a process as long as they stay the same ones. Hidden files don't matter; others that
    are not of it do, for whatever loads a model may read them.
    """
    if not folder.is_dir():
        return f"{folder} is missing"
    try:
        stamps = _stamps(folder)
        if _found_whole.get((folder, name)) == stamps:
            return None
        damage = next(damages_of_folder(folder, name), None)
    except OSError as error:
        return f"{error.filename or folder} can't be read ({error.strerror})"
    if damage is None:
        _found_whole[folder, name] = stamps
    return damage


def damages_of_folder(folder: Path, name: str) -> Iterator[str]:
    """All that is not as it was sealed under a name, naming the files."""
    seal = read_manifest(folder / SEAL)
    if not (folder / SEAL).exists():
        yield f"{folder} has no {SEAL}, by which its files are checked: an earlier version has made it"
    elif seal is None or seal.get("name") != name:
        yield f"{folder / SEAL} is corrupt, or of another folder"
    else:
        yield from damages(folder, seal)
        yield from (f"{path} was put there by somebody, and might be read" for path in strange_files(folder))


def strange_files(folder: Path) -> list[Path]:
    """The files of a folder that its seal does not list; none where it has no seal that can be read."""
    seal = read_manifest(folder / SEAL)
    found = [] if seal is None else visible_files(folder)
    return [path for path in found if seal and path.relative_to(folder).as_posix() not in seal["files"]]


def set_aside(folder: Path, *, keep: bool = False) -> Path | None:
    """Take a folder out of the way of another, and remove it unless somebody may miss what is in it.

    Args:
        folder: renamed first, so that nobody reads half of it.
        keep: do not remove it; nor is one removed that holds files which were not there when it was sealed.

    Returns:
        Its new place, if it is kept.
    """
    keep = keep or bool(strange_files(folder))
    aside = folder.with_name(discarded_name(folder.name))
    if keep:
        aside = aside.with_name(aside.name.replace(".discarded-", ".aside-"))
    folder.rename(aside)
    if not keep:
        shutil.rmtree(aside, ignore_errors=True)  # another user's folder can be renamed, but not removed
    return aside if keep else None


def _stamps(folder: Path) -> list[tuple[str, int, int, int, int]]:
    """Names, inodes, sizes and times of all files in a folder, the seal too."""
    found = []
    for path in [folder / SEAL, *visible_files(folder)]:
        if path.exists():
            stat = path.stat()
            found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return found
