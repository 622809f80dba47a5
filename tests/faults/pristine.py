"""A folder that is brought back to what it was, as often as one likes: contents, times, and inodes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults.damage import clear


class _Stamp(NamedTuple):
    inode: int
    n_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        found = path.lstat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass
class Pristine:
    """All that is in a folder; links in it are left to themselves."""

    folder: Path
    held: Path
    """A folder on the same disk, for a second name of every file: what is unlinked keeps its inode."""
    _known: set[Path] = field(init=False)
    _files: dict[Path, tuple[Path, _Stamp, bytes]] = field(default_factory=dict, init=False)
    """By their paths: the second name, the stamp, and what is in them."""
    _folders: dict[Path, _Stamp] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.held.mkdir()
        self._known = {self.folder, *self.folder.rglob("*")}
        for path in (self.folder, *sorted(self.folder.rglob("*"))):
            if path.is_dir():
                self._folders[path] = _Stamp.of(path)
            elif not path.is_symlink():
                held = self.held / str(len(self._files))
                os.link(path, held)
                self._files[path] = held, _Stamp.of(held), path.read_bytes()

    def restore(self) -> None:
        """Bring all back, and remove what has come since."""
        self._restore_folders()
        for path, (held, stamp, content) in self._files.items():
            if _Stamp.of(held) != stamp:
                held.write_bytes(content)
                os.utime(held, ns=(stamp.modified_ns, stamp.modified_ns))
            if not os.path.lexists(path) or path.lstat().st_ino != stamp.inode:
                clear(path)
                os.link(held, path)
            if (new := _Stamp.of(held)) != stamp:
                self._files[path] = held, new, content
        for path in sorted(self.folder.rglob("*")):
            if path not in self._known:
                clear(path)
        for path, stamp in self._folders.items():
            if path.stat().st_mtime_ns != stamp.modified_ns:
                os.utime(path, ns=(stamp.modified_ns, stamp.modified_ns))

    def _restore_folders(self) -> None:
        """Bring back folders that have another name, and make those anew that are gone."""
        for path, stamp in self._folders.items():
            if path.is_dir() and not path.is_symlink() and path.stat().st_ino == stamp.inode:
                continue
            clear(path)
            beside = (other for other in path.parent.iterdir() if other.lstat().st_ino == stamp.inode)
            if (moved := next(beside, None)) is not None:
                moved.rename(path)
            else:
                path.mkdir()
