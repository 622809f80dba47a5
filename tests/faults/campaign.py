"""Figures of campaigns: counted by campaign and kind, added to a file, so that long ones may run in pieces."""

from __future__ import annotations

import csv
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from tests.faults.trial import Trial, Verdict

_VERDICTS = get_args(Verdict)
_KEY = ("campaign", "kind", "seed", "commit")
_COLUMNS = (*_KEY, "form", "trials", *_VERDICTS, "next_trial", "cpu_seconds")


_FORMS = {"reads": "readers of the file"}
_END_TO_END = "end to end"
"""The form of campaigns in which whole verbs are run, and what was lost is made again."""


@dataclass
class Campaign:
    """One campaign with one seed: trials from a number on, until the time is over."""

    name: str
    trials: Iterator[tuple[int, list[Trial]]]
    """The number of each, and the faults in it."""
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: dict.fromkeys(_VERDICTS, 0)))
    bad: list[tuple[int, Trial]] = field(default_factory=list)
    next_trial: int = 0
    cpu_seconds: float = 0.0

    def run(self, seconds: float = float("inf"), n: float = float("inf")) -> None:
        """Take trials until this time is over or the numbers reach n."""
        begin, used = time.monotonic(), cpu_seconds()
        for number, found in self.trials:
            for trial in found:
                self.counts[trial.kind][trial.verdict] += 1
                self.bad += [] if trial.is_good else [(number, trial)]
            self.next_trial = number + 1
            if time.monotonic() - begin > seconds or self.next_trial >= n:
                break
        self.cpu_seconds = cpu_seconds() - used

    def lines(self, seed: int, commit: str) -> list[dict[str, str]]:
        share = self.cpu_seconds / max(1, sum(sum(counts.values()) for counts in self.counts.values()))
        found = []
        for kind, counts in sorted(self.counts.items()):
            n = sum(counts.values())
            line = {"campaign": self.name, "kind": kind, "seed": seed, "commit": commit}
            line |= {"form": _FORMS.get(self.name, _END_TO_END), "trials": n, **counts}
            line |= {"next_trial": self.next_trial, "cpu_seconds": round(n * share, 1)}
            found.append({name: str(value) for name, value in line.items()})
        return found


def cpu_seconds() -> float:
    """Seconds that this process and those of its children that have ended have used."""
    return sum(os.times()[:4])


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a file with figures; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def next_trial(lines: list[dict[str, str]], campaign: str, seed: int, commit: str) -> int:
    """The number of the first trial that is not yet in the file."""
    key = {"campaign": campaign, "seed": str(seed), "commit": commit}
    return max((int(line["next_trial"]) for line in lines if key.items() <= line.items()), default=0)


def add(path: Path, new: list[dict[str, str]]) -> None:
    """Add figures to those in a file of the same campaign, kind, seed and commit."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for line in (*read(path), *new):
        key = tuple(line[name] for name in _KEY)
        found[key] = _sum(found[key], line) if key in found else line
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found[key] for key in sorted(found))


def _sum(a: dict[str, str], b: dict[str, str]) -> dict[str, str]:
    whole = {name: str(int(a[name]) + int(b[name])) for name in ("trials", *_VERDICTS)}
    whole["next_trial"] = str(max(int(a["next_trial"]), int(b["next_trial"])))
    whole["cpu_seconds"] = f"{float(a['cpu_seconds']) + float(b['cpu_seconds']):.1f}"
    return {**a, **whole}
