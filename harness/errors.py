"""Errors that the harness raises on purpose. A message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

_WHICH = "HARNESS_CACHE and the working folder say which disk is used"
_REMEDIES = {
    errno.ENOSPC: f"Make room there, or use another disk: {_WHICH}.",
    errno.EDQUOT: f"Your quota there is used up: make room, or use another disk: {_WHICH}.",
    errno.EROFS: f"That disk can only be read. Use another one: {_WHICH}.",
    errno.EACCES: f"You may not write there: look at who owns it, or use another place: {_WHICH}.",
    errno.EPERM: f"You may not write there: look at who owns it, or use another place: {_WHICH}.",
    errno.EFBIG: "Files may not be as large here: look at `ulimit -f` and at what the disk's file system takes.",
    errno.EMFILE: "Too many files are open: raise the limit (`ulimit -n`), or start fewer workers.",
    errno.ENFILE: "Too many files are open on this machine.",
    errno.ENOMEM: "There is too little memory: start fewer workers, or look at the limits (`ulimit -v`).",
    errno.EIO: "The disk itself fails. Look at the system's log.",
    errno.ENOTDIR: f"A part of that path is a file. Move it, or use another place: {_WHICH}.",
    errno.ENAMETOOLONG: "The name is too long for the disk.",
}


class HarnessError(Exception):
    """Base of all errors raised on purpose; the command line prints them without a traceback."""


class PluginError(HarnessError):
    """A plugin could not be loaded, or broke the contract of its kind."""


class ConfigError(HarnessError):
    """One or more problems in a suite or in parameters; all are reported together."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class StoreError(HarnessError):
    """An artefact is missing, corrupt or does not fit on the disk."""


class OutOfMemory(HarnessError):
    """A card has no memory for a cell, and its numbers depend on what would have to be smaller."""


class BudgetReached(HarnessError):
    """The budget of a suite's judge is spent. Requests that are left stay to do; nothing has failed."""


class Undefined(HarnessError):
    """A metric has no value on this input, or a method can't learn from it, as when it has more latents than rows.

    The table gets a null and this reason, never a number; the cells of such a method are skipped.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


KEPT_TEXT = 2_000
"""Characters that are kept of a text of a plugin's."""
MAX_TEXT = KEPT_TEXT + 100
"""Characters of the longest text that is not cut; with the words that say so, cut ones are no longer."""


def bounded(text: str) -> str:
    """The text, or its begin and its true length; what no file or terminal can hold is spelt out."""
    text = text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_TEXT else f"{text[:KEPT_TEXT]} … (cut: it has {len(text):,} characters)"


def text_of(error: BaseException) -> str:
    """The text of an error that may be a plugin's own, where that gives one; else the error's type, or why not."""
    try:
        return str(error) or type(error).__name__
    except KeyboardInterrupt:
        raise
    except BaseException as another:
        return f"(its text can't be had: {type(another).__name__})"


def said(error: BaseException) -> str:
    """The type and the text of an error of a plugin's, bounded."""
    return bounded(f"{type(error).__name__}: {text_of(error)}")


def suggest(wrong: str, valid: Iterable[str]) -> str:
    """A sentence that names the near and the valid choices, for the end of an error message."""
    choices = sorted(valid)
    near = difflib.get_close_matches(wrong, choices, n=3)
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return f"{hint} Valid: {', '.join(choices) or 'none'}."


def remedy(error: BaseException) -> str:
    """Advice on an error of the disk or the machine, by its number; empty for all others.

    That something is an OSError says little: pyarrow calls a damaged file one.
    """
    number = error.errno if isinstance(error, OSError) else None
    if (
        number is None
        and type(error).__name__ == "SafetensorError"
        and (found := re.search(r"os error (\d+)", str(error)))
    ):
        number = int(found[1])
    return _REMEDIES.get(number or 0, "")
