"""The streams that verbs print to, and the exit codes that they end with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

from harness import wording

if TYPE_CHECKING:
    from harness.registry.plugin_manager import Catalog

ALL_DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
out = Console(width=None if sys.stdout.isatty() else 120)  # piped output has no width of its own
err = Console(stderr=True)


_LONGEST = 4000
"""Length of the longest line that is printed whole: more of an error than that is data."""


def complain(text: str) -> None:
    """A line for people beside the output: a warning, a reason, an error."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    err.print(wording.visible(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def warn_of_plugins(catalog: Catalog) -> None:
    """Name each plugin file that was loaded, and each plugin that could not be used, and why."""
    for line in catalog.loaded:
        complain(line)
    for problem in catalog.problems:
        complain(f"warning: plugin: {problem}")
