"""Findings of checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; without a problem or a reason why it was not checked, the requirement holds."""

    check: str
    requirement: str
    problem: str | None = None
    not_checked: str | None = None

    @property
    def outcome(self) -> Literal["holds", "fails", "not checked"]:
        if self.problem is not None:
            return "fails"
        return "holds" if self.not_checked is None else "not checked"

    @property
    def message(self) -> str:
        return self.problem or self.not_checked or ""
