"""Model folders that are made once and then lie in the cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from harness import cache_folder


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `models/<name>` of the cache; `make` fills it first if it is not there. It appears whole."""
    folder = cache_folder() / "models" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
            try:
                make(partial)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return folder
