"""A check that several kinds share: the identity of a plugin follows the files that its parameters name."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.testing.checks import Broken, NotChecked
from harness.testing.registration import Registration

_MAX_BYTES = 50_000_000
"""Size up to which files are copied to be changed."""


def follows_files(declared: Registration) -> None:
    """Raise `Broken` if a letter in the files can be changed and the identity stays the same."""
    with tempfile.TemporaryDirectory() as folder:
        if _n_bytes(declared.params) > _MAX_BYTES:
            raise NotChecked(f"its files have over {_MAX_BYTES:,} bytes; give it smaller ones")
        params = _with_copies(declared.params, Path(folder))
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.stat().st_size)
        if not files:
            raise NotChecked("no parameter names a file that is there")
        before = declared.identity(params)
        if declared.identity(params) != before:
            raise Broken("the identity of the same files is another one the second time.")
        if not any(_is_noticed(file, declared, params, before) for file in files):
            raise Broken(
                "a letter in its files was changed, and its identity stays: stored results would be taken for those of "
                "the new texts. Give the Spec an identity that has harness.file_digest(path) of each file."
            )


def _is_noticed(file: Path, declared: Registration, params: dict[str, Any], before: Any) -> bool:
    """True if the identity is another one after a change in a file, which is then undone."""
    content, times = file.read_bytes(), file.stat()
    place = len(content) // 2
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        return bool(declared.identity(params) != before)
    except ConfigError:  # it is read, and refused
        return True
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _with_copies(value: Any, folder: Path) -> Any:
    """Parameters, each file or folder that one names copied under `folder` and named there."""
    if isinstance(value, dict):
        return {key: _with_copies(part, folder / f"{key}") for key, part in value.items()}
    if isinstance(value, list):
        return [_with_copies(part, folder / f"{number}") for number, part in enumerate(value)]
    if not isinstance(value, str) or not value or not Path(value).expanduser().exists():
        return value
    source, copy = Path(value).expanduser(), folder / Path(value).name
    folder.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy)
    return str(copy)


def _n_bytes(value: Any) -> int:
    """The size of all files that parameters name."""
    if isinstance(value, (dict, list)):
        return sum(map(_n_bytes, value.values() if isinstance(value, dict) else value))
    path = Path(value).expanduser() if isinstance(value, str) and value else None
    if path is None or not path.exists():
        return 0
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
