"""Kills of runs, workers and other verbs, at file operations and at random moments, and what comes of going on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.faults.damage import damage
from tests.faults.inside import VARIABLE
from tests.faults.subject import NAME, SUITE, Subject, differing, ended
from tests.faults.trial import Trial, Verdict

_MAX_OPERATIONS = 60
"""Operations of a process, at one of which it is killed: the next one goes on from there."""
_MAX_OPERATIONS_OF_OTHERS = 150
_OTHER_VERBS = (("report", f"name={NAME}"), ("gc", "--captures", "--models", "--yes"), ("leaderboard", f"name={NAME}"))
_LOCKS = re.compile(r"\.lock$|/turn$|^results/t/(logs|board|wandb)/")
"""Files that stay, and may come or not."""


@dataclass
class Kills:
    """Runs from nothing that are killed a few times until one ends."""

    whole: Subject
    """Finished without any fault, to compare with."""
    place: Path
    popen: type[subprocess.Popen]
    executor: str = "local"
    """One of those that start workers elsewhere has whole processes killed, each at some moment."""
    environment: Mapping[str, str] = field(default_factory=dict)
    max_kills: int = 13
    """Kills in one trial: each costs the start of a run, and what is done between two of them is done once."""
    usual: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.expected, self.n_asked = self.whole.shown(), self.whole.n_asked()
        self.usual = {self.whole.kind_of(path) for path in self.whole.files()}

    def trials(self, seed: int, first: int = 0) -> Iterator[tuple[int, list[Trial]]]:
        """Trials without end: the kills of each, all with the trial's verdict."""
        for number in count(first):
            yield number, self.trial(random.Random(f"{self.executor} {seed} {number}"))

    def trial(self, draw: random.Random) -> list[Trial]:
        shutil.rmtree(self.place, ignore_errors=True)
        subject = Subject(self.place / "subject", self.environment)
        subject.cache.mkdir(parents=True)
        killed: list[str] = []
        said, is_damaged = "", False
        for _ in range(draw.randint(2, self.max_kills)):
            at, code, out = self._killed(subject, self._words(draw), draw)
            said += out
            if at is None:
                if code != 0 and killed:
                    return self._all(killed, "stopped", f"exit code {code} of a run that was left alone: {out[-900:]}")
                break
            killed.append(at)
            if draw.random() < 0.3 and (hit := self._damaged(subject, draw)):
                killed[-1] += f", {hit}"
                is_damaged = True
        if draw.random() < 0.4:
            verb = draw.choice(_OTHER_VERBS)
            if verb[0] == "report":
                shutil.rmtree(subject.results / "report", ignore_errors=True)
            at, _, out = self._killed(subject, verb, draw)
            said += out
            killed += [f"{verb[0]}: {at}"] if at else []
        verdict, detail = self._judged(subject, said)
        # More are possible: two workers may ask the same at once.
        if verdict == "made again" and not is_damaged and (n_asked := subject.n_asked()) < self.n_asked:
            verdict, detail = "silent", f"{n_asked:g} requests to the judge are in the costs of {self.n_asked:g}"
        return self._all(killed, verdict, detail)

    def _all(self, killed: list[str], verdict: Verdict, detail: str) -> list[Trial]:
        return [Trial(at.partition(",")[0], " / ".join(killed), verdict, detail) for at in killed]

    def _words(self, draw: random.Random) -> tuple[str, ...]:
        """A run with one worker or two, at times with W&B, or a worker that comes without a run."""
        if self.executor != "local":
            return ("run", *SUITE, f"executor={self.executor}", "executor.workers=2", "executor.threads=1")
        words = (
            draw.choice(("run", "run", "run", "run", "work")),
            *SUITE,
            f"executor.workers={draw.choice((1, 1, 2))}",
        )
        return (*words, "wandb.mode=offline") if draw.random() < 0.05 else words

    def _killed(self, subject: Subject, words: tuple[str, ...], draw: random.Random) -> tuple[str | None, int, str]:
        """Start a verb and have it killed; where that was, None if it ended before, its exit code and what it said."""
        fault, token, delay = self._fault(subject, words[0], draw)
        wandb = "offline" if "wandb.mode=offline" in words else "disabled"
        process = subject.start(self.popen, *words, WANDB_MODE=wandb, **{VARIABLE: json.dumps(fault)})
        at = None
        if delay is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=delay)
            if process.poll() is None:
                at = self._kill(process.pid, draw)
        code, out = ended(process)
        used = token.with_name(f"{token.name}.used")
        if used.exists():
            role, _, path = used.read_text().split(" ", 2)
            at = f"{role} at {_place(path)}"
        return at, code, out

    def _kill(self, run: int, draw: random.Random) -> str:
        """Kill a run, one of its workers, or all."""
        if self.executor == "local":
            workers = [child for child in children(run) if is_worker(child)]
        else:
            workers = [pid for pid in _at_work_in(self.place) if pid != run]
        whom = draw.choice(("run", "worker", "all")) if workers else "run"
        for pid in {"run": [run], "worker": [draw.choice(workers or [run])], "all": [*workers, run]}[whom]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"{whom} at some moment" + ("" if self.executor == "local" else f", {self.executor}")

    def _fault(self, subject: Subject, verb: str, draw: random.Random) -> tuple[dict[str, Any], Path, float | None]:
        token = self.place / "token"
        for path in (token, token.with_name("token.used")):
            path.unlink(missing_ok=True)
        if self.executor != "local":
            return {}, token, draw.uniform(1, 40)
        if draw.random() < 0.25:
            return {}, token, draw.uniform(0.05, 4)
        token.touch()
        is_working = verb in ("run", "work")
        role = draw.choice(("run", "worker", "worker")) if is_working else "run"
        power = 1 if is_working else 3
        operation = 1 + int((_MAX_OPERATIONS if is_working else _MAX_OPERATIONS_OF_OTHERS) * draw.random() ** power)
        with_parent = role == "worker" and draw.random() < 0.85  # else the run ends well, and nothing is left to kill
        die = {"operation": operation, "folder": str(subject.folder), "token": str(token), "with_parent": with_parent}
        return {"role": role, "die": die}, token, None

    def _damaged(self, subject: Subject, draw: random.Random) -> str:
        """Damage what the killed run had not finished, as a machine that fell does."""
        halves = [path for path in subject.files() if subject.kind_of(path) not in self.usual]
        halves = [path for path in halves if not _LOCKS.search(subject.kind_of(path))]
        if not halves:
            return ""
        path = draw.choice(halves)
        how = damage(path, draw.choice(halves), draw)
        return f"{subject.kind_of(path)}: {how}" if how else ""

    def _judged(self, subject: Subject, said: str) -> tuple[Verdict, str]:
        last = subject.run()
        if "Traceback (most recent" in said + last.err + last.out or last.code is None:
            return "traceback", (said + last.err)[-1500:]
        if last.code != 0:
            return "lost", f"exit code {last.code}: {last.err[-800:]}"
        if differs := differing(self.expected, subject.shown()):
            return "silent", f"differs: {differs}"
        if orphans := processes_in(self.place):
            return "lost", f"still at work: {orphans}"
        if left := self._left_over(subject):
            return "leftover", f"left behind: {left}"
        return "made again", ""

    def _left_over(self, subject: Subject) -> list[str]:
        """Kinds of files that an unbroken run does not leave and that nothing frees, as old as one likes."""

        def strange() -> list[Path]:
            kinds = {path: subject.kind_of(path) for path in subject.files()}
            return [path for path, kind in kinds.items() if kind not in self.usual and not _LOCKS.search(kind)]

        if not strange():
            return []
        long_ago = time.time() - 30 * 86_400
        for path in strange():
            for part in (path, *path.parents):
                if part.is_relative_to(subject.folder):
                    os.utime(part, (long_ago, long_ago))
        subject.run()
        subject.call("gc", "--yes")
        return sorted({subject.kind_of(path) for path in strange()})


def _place(path: str) -> str:
    """The part of the store that a path is in."""
    parts = [re.sub(r"[0-9a-f]{8,}|\d+", "*", part) for part in Path(path).parts]
    return "/".join(parts[: 3 if parts[:1] == ["results"] else 2]) or "."


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def is_worker(pid: int) -> bool:
    """True for a process that leads a group, as workers do and nurseries do not."""
    with suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False


def processes_in(folder: Path) -> list[int]:
    """Processes that work below a folder, but those that are gone soon."""
    deadline = time.monotonic() + 10
    while (found := _at_work_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _at_work_in(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found
