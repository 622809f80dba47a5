"""Reservations: tokens and money that processes set aside before they spend it, so that together they keep a budget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict

from harness.asking.answer_file import AnswerFile
from harness.storage.processes import Process

_SECONDS_KEPT = 900.0
"""Time for which a reservation of another machine holds after its last answer."""


class Reservations:
    """The reservations of a suite, of which one is this object's own.

    Args:
        file: the file with the ledger. Whoever decides by what is reserved, and reserves, does both in one transaction.
        suite: whose budget it is.
        now: the time, in seconds since 1970, by which machines that share a disk agree well enough.
    """

    def __init__(self, file: AnswerFile, suite: str, now: Callable[[], float] = time.time) -> None:
        self._file, self._suite, self._now = file, suite, now
        self._process = asdict(Process.current())
        self._owner = json.dumps({**self._process, "asker": id(self)}, sort_keys=True)

    def of_others(self) -> tuple[float, float]:
        """Tokens and US dollars that others have set aside; those of processes that are gone are dropped."""
        rows = self._file.execute(
            "select owner, n_tokens, usd, touched from reservations where suite = ? and owner != ?",
            [self._suite, self._owner],
        )
        n_tokens, usd = 0.0, 0.0
        for owner, its_tokens, its_usd, touched in rows:
            if self._is_gone(owner, touched):
                self._file.execute("delete from reservations where owner = ?", [owner])
            else:
                n_tokens, usd = n_tokens + max(0.0, its_tokens), usd + max(0.0, its_usd)
        return n_tokens, usd

    def set_aside(self, n_tokens: float, usd: float) -> None:
        """Reserve this much, in place of what this object had reserved."""
        self.release()
        self._file.execute(
            "insert into reservations (owner, suite, n_tokens, usd, touched) values (?, ?, ?, ?, ?)",
            [self._owner, self._suite, n_tokens, usd, self._now()],
        )

    def lower(self, n_tokens: float, usd: float) -> None:
        """Reserve less by this: it has been spent, and is in the ledger."""
        self._file.execute(
            "update reservations set n_tokens = max(0, n_tokens - ?), usd = max(0, usd - ?), touched = ? "
            "where owner = ?",
            [n_tokens, usd, self._now(), self._owner],
        )

    def release(self) -> None:
        """Reserve nothing any more."""
        self._file.execute("delete from reservations where owner = ?", [self._owner])

    def _is_gone(self, owner: str, touched: float) -> bool:
        try:
            process = Process.from_json(json.loads(owner))
            if process.is_here:
                return not process.runs
        except (ValueError, TypeError, LookupError):  # damaged: as one of another machine
            pass
        return abs(self._now() - touched) > _SECONDS_KEPT
