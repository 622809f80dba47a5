"""Trials: what befell a suite, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["harmless", "named", "made again", "stopped", "leftover", "lost", "silent", "traceback"]
GOOD = ("harmless", "named", "made again")


@dataclass(frozen=True)
class Trial:
    """One fault, and its end."""

    kind: str
    """The kind of file that was hit, or of fault."""
    how: str
    verdict: Verdict
    """Harmless: nothing differs. Named: it was said, made again, and all is as before. Made again: so, without a word.
    Stopped: the run after it failed, the next one did not. Lost: later runs fail or give other tables. Silent: other
    values were shown without a word."""
    detail: str = ""
    """The words that were said, for verdicts that are not good."""

    @property
    def is_good(self) -> bool:
        return self.verdict in GOOD
