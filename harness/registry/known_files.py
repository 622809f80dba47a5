"""Plugin files whose code may run though no one has named them just now: those that this user has run before.

They are known by their checksums, which lie in the user's own folder for states: a results folder that one is sent
can't bring them along, nor can a cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import platformdirs

from harness.errors import ConfigError


def admit(file: str, named_by: str | None, found_in: str) -> str:
    """Say why the code of a plugin file may run; a ConfigError where nothing speaks for it.

    Args:
        file: its path.
        named_by: who of those that may has named it, such as `the command line`; None if none of them has.
        found_in: the file that names it.
    """
    if named_by is not None:
        return f"loaded {file}: {named_by} names it"
    if (digest := _digest(file)) is None:
        raise ConfigError(
            f"{found_in}: plugin_files: no file {file!r} (working folder: {Path.cwd()}). Say where it is: "
            "plugin_files=[PATH]."
        )
    if not (_folder() / digest).is_file():
        raise ConfigError(
            f"{found_in} names the plugin file {file!r} (sha256 {digest[:16]}), which you have not run on this machine "
            f"with these contents, so its code is not run here. Read it; if you trust it, name it yourself: "
            f"plugin_files=[{file}]. What you `harness run` is known from then on."
        )
    return f"loaded {file}: you have run it before (sha256 {digest[:16]}), and {found_in} names it"


def remember(files: Iterable[str]) -> None:
    """Know plugin files from now on; where there is no room for that, they have to be named each time."""
    with suppress(OSError):
        _folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in files:
            if (digest := _digest(file)) is not None:
                (_folder() / digest).write_text(f"{Path(file).absolute()}\n", encoding="utf-8")


def _digest(file: str) -> str | None:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else None


def _folder() -> Path:
    return platformdirs.user_state_path("decomp-harness") / "plugin_files"
