"""Temporaries: what a killed process was about to put in the place of a file or folder, or was removing.

Names tell them from all else, and hold no process id: a later process with the same one finds nothing in its way. All
but the largest live for less than a second, so that one of yesterday is nobody's any more.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SECONDS_UNTIL_OLD = 24 * 3600.0
_NAMES = (
    r"\..+\.[0-9a-f]{16}\.tmp",  # files.temporary_name
    r"\.board-[0-9a-f]{16}",
    r"\..+\.discarded-\w+",
    r"\..+\.\d+(\.old)?|\.calibration-\d+",  # those of earlier versions
)
_NAME = re.compile("|".join(f"(?:{name})" for name in _NAMES))


def temporaries(folder: Path, depth: int) -> Iterator[Path]:
    """Find those of a folder, and of folders down to a depth below it, that are a day old and this user's."""
    now = time.time()
    for pattern in ("/".join([*("*" * below), ".*"]) for below in range(depth + 1)):
        for path in folder.glob(pattern):
            with suppress(OSError):  # it has gone meanwhile
                found = path.lstat()
                is_old = now - found.st_mtime > _SECONDS_UNTIL_OLD
                if is_old and found.st_uid == os.getuid() and _NAME.fullmatch(path.name):
                    yield path


def sweep(folder: Path, depth: int) -> None:
    """Remove those that are found."""
    for path in list(temporaries(folder, depth)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
