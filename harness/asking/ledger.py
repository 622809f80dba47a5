"""The ledger: what each request to a judge took, which suite had it asked, and for which cell.

It stands in the file of answers. What a suite has spent in all is also kept in a small file of its own: where the two
differ, one of them is damaged, and the larger number counts. So no damage lets a suite spend more than its budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from harness.asking.answer_file import AnswerFile
from harness.contracts.spending import Usage
from harness.files import writing
from harness.planning.keys import content_key
from harness.planning.suite import JudgeBudget

_SUMS = "total(n_requests), total(n_prompt_tokens), total(n_answer_tokens), total(n_estimated), total(usd)"
"""Sums as floats, which are whole below 2^53: a damaged number could be one that integers can't be added to."""


class Ledger:
    """The ledger of one suite.

    Args:
        file: the file of answers.
        folder: the folder of the small files.
        suite: the suite.
        warn: told when the ledger is damaged.
    """

    def __init__(self, file: AnswerFile, folder: Path, suite: str, warn: Callable[[str], None]) -> None:
        self._file, self._suite, self._warn = file, suite, warn
        self._copy = folder / f"{content_key(suite)}.json"
        self._is_told = False

    def charge(self, key: str, kind: str, usage: Usage, usd: float | None, cell: str | None) -> None:
        """Add the usage of a request, as part of a transaction. A request that failed may have cost too."""
        before = self._in_all()
        self._file.execute(
            "insert into ledger (key, suite, kind, n_requests, n_prompt_tokens, n_answer_tokens, n_estimated, usd, "
            "cell) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [key, self._suite, kind, *vars(usage).values(), usd, cell],
        )
        if before is not None:
            self._write(before[0] + usage, before[1] + (usd or 0.0))

    def spent(self, budget: JudgeBudget) -> tuple[Usage, float]:
        """Usage of the suite so far, in all its runs, and its price in US dollars as far as known.

        Where that was lost, the budget counts as spent: what was spent was within it.
        """
        ledger, copy = self._sums(), self._in_all()
        if copy is None:
            self._tell(
                "what this suite has spent on its judge is not known any more, as the ledger and its copy are damaged. "
                "Its judge_budget counts as spent: raise it by what may be spent yet"
            )
            self._write(Usage(0, budget.tokens or 0), budget.usd or 0.0)
            return self.spent(budget)
        both = Usage(*map(max, vars(ledger[0]).values(), vars(copy[0]).values())), max(ledger[1], copy[1])
        if not (_is_near(both, ledger) and _is_near(both, copy)):
            self._tell("the ledger of what this suite has spent on its judge and its copy differ: the larger counts")
            self._write(*both)
        return both

    def of_cell(self, cell: str) -> tuple[Usage, float | None]:
        """Usage of the requests that were first sent for a cell, in all runs, and its price, if it is known."""
        query = f"select {_SUMS}, count(*) - count(usd) from ledger where suite = ? and cell = ?"  # noqa: S608
        *counts, usd, n_unknown = self._file.execute(query, [self._suite, cell])[0]
        return Usage(*map(int, counts)), None if n_unknown else usd

    def _sums(self) -> tuple[Usage, float]:
        *counts, usd = self._file.execute(f"select {_SUMS} from ledger where suite = ?", [self._suite])[0]  # noqa: S608
        return Usage(*map(int, counts)), usd

    def _in_all(self) -> tuple[Usage, float] | None:
        """The sums in the copy, or those of the ledger where there is none to trust; None where neither is known."""
        try:
            read = json.loads(self._copy.read_text())
            if read["checksum"] == content_key(read["spent"]):
                *counts, usd = read["spent"]
                return Usage(*counts), usd
        except FileNotFoundError:
            return self._sums()  # nothing was ever spent, or by a version that kept no copy
        except (OSError, ValueError, TypeError, LookupError):
            pass
        return None if self._file.was_damaged else self._sums()

    def _write(self, usage: Usage, usd: float) -> None:
        # Not first to another name: half a copy is none, and then the ledger counts.
        with writing(self._copy):
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            spent = [*asdict(usage).values(), usd]
            self._copy.write_text(json.dumps({"spent": spent, "checksum": content_key(spent), "suite": self._suite}))

    def _tell(self, text: str) -> None:
        if not self._is_told:
            self._warn(f"{text} ({self._copy}).")
        self._is_told = True


def _is_near(a: tuple[Usage, float], b: tuple[Usage, float]) -> bool:
    """True where two sums differ by no more than the order of adding up."""
    return a[0] == b[0] and abs(a[1] - b[1]) <= 1e-9 * (1 + abs(a[1]))
