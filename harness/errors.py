"""Errors that the harness raises on purpose. A message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


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


class BudgetReached(HarnessError):
    """The budget of a suite's judge is spent. Requests that are left stay to do; nothing has failed."""


class Undefined(HarnessError):
    """A metric has no value on this input, or a method can't learn from it, as when it has more latents than rows.

    The table gets a null and this reason, never a number; the cells of such a method are skipped.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def suggest(wrong: str, valid: Iterable[str]) -> str:
    """A sentence that names the near and the valid choices, for the end of an error message."""
    choices = sorted(valid)
    near = difflib.get_close_matches(wrong, choices, n=3)
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return f"{hint} Valid: {', '.join(choices) or 'none'}."
