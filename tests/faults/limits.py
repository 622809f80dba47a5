"""Runs where something is short or held back, and several at once: then, without that, all is as it should be."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.faults.inside import VARIABLE
from tests.faults.kills import children, is_worker, processes_in
from tests.faults.subject import NAME, SUITE, Subject, differing, ended
from tests.faults.trial import Trial, Verdict

_YEAR = 365 * 86_400
_RUN = ("run", *SUITE)


@dataclass
class Limits:
    """Scenarios, each with a size or a moment that is drawn."""

    whole: Subject
    place: Path
    popen: type[subprocess.Popen]
    n_runs: int = 8
    """Runs at once."""

    def __post_init__(self) -> None:
        self.expected = self.whole.shown()
        self.scenarios: dict[str, Callable[[random.Random], Trial | str]] = {
            "full disk": self._full_disk,
            "limit of file sizes": self._file_size,
            "limit of memory": self._memory,
            "no permission": self._permission,
            "clock": self._clock,
            "stopped owner": self._stopped_owner,
            "runs at once": self._runs_at_once,
            "reports at once": self._reports_at_once,
        }

    def trials(self, seed: int, first: int = 0) -> Iterator[tuple[int, list[Trial]]]:
        """The scenarios in turn. One that this machine can't have is left out."""
        for number in count(first):
            name = list(self.scenarios)[number % len(self.scenarios)]
            trial = self.trial(name, random.Random(f"limits {seed} {number}"))
            yield number, [trial] if isinstance(trial, Trial) else []

    def trial(self, name: str, draw: random.Random) -> Trial | str:
        """One scenario; the reason where there can be none here."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        return self.scenarios[name](draw)

    def _full_disk(self, draw: random.Random) -> Trial | str:
        if os.geteuid() != 0:
            return "only root can mount a small disk"
        subject = self._empty("subject")
        which = draw.choice((subject.cache, subject.results.parent))
        which.mkdir(exist_ok=True)
        kilobytes = int(40 * 50 ** draw.random())
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", which], check=False).returncode:
            return "no disk can be mounted here"
        try:
            said = self._run(subject)
            subprocess.run(["mount", "-o", "remount,size=400m", which], check=True)
            return self._judged("full disk", f"{which.name} of {kilobytes} kB", [said], [subject])
        finally:
            subprocess.run(["umount", "-l", which], check=True)

    def _file_size(self, draw: random.Random) -> Trial:
        return self._limited("limit of file sizes", limits={"RLIMIT_FSIZE": int(200 * 3000 ** draw.random())})

    def _memory(self, draw: random.Random) -> Trial:
        """Little or nothing beyond the libraries for workers, or enough for a run to say so."""
        if draw.random() < 0.7:
            return self._limited(
                "limit of memory", role="worker", limits={"RLIMIT_AS": int(1e5 * 3000 ** draw.random())}
            )
        return self._limited("limit of memory", limits={"RLIMIT_AS": int(64e6 * 8 ** draw.random())})

    def _limited(self, name: str, **fault: Any) -> Trial:
        subject = self._empty("subject")
        return self._judged(name, str(fault), [self._run(subject, **fault)], [subject])

    def _permission(self, draw: random.Random) -> Trial:
        """Some folder, or all below it, can't be written; the run makes it anew, or begins from nothing."""
        subject = self.whole.copy_to(self.place / "subject")
        if draw.random() < 0.5:
            shutil.rmtree(subject.results)
        shutil.rmtree(draw.choice(sorted(path for path in subject.cache.iterdir() if path.is_dir())))
        folders = [path for path in sorted(subject.folder.rglob("*")) if path.is_dir()]
        top = draw.choice(folders)
        for folder in (top, *(path for path in folders if path.is_relative_to(top))):
            folder.chmod(0o555)
        said = self._run(subject, bare=True)
        for folder in (top, *top.rglob("*")):
            if folder.is_dir():
                folder.chmod(0o755)
        return self._judged("no permission", subject.kind_of(top), [said], [subject])

    def _clock(self, draw: random.Random) -> Trial:
        """The files are of a time to come, or of one long gone, and the clock is off while something is made again."""
        subject = self.whole.copy_to(self.place / "subject")
        off = draw.choice((-1, 1)) * draw.uniform(0, 30 * _YEAR)
        for path in subject.folder.rglob("*"):
            if draw.random() < 0.7:
                then = time.time() + draw.choice((-1, 1)) * draw.uniform(0, 20 * _YEAR)
                os.utime(path, (then, then), follow_symlinks=False)
        shutil.rmtree(subject.results)
        shutil.rmtree(draw.choice(sorted(path for path in subject.cache.iterdir() if path.is_dir())))
        said = self._run(subject, seconds_off=off)
        return self._judged("clock", f"off by {off / _YEAR:.1f} years", [said], [subject], must_end_well=True)

    def _stopped_owner(self, draw: random.Random) -> Trial:
        """A worker is stopped while it works; a run elsewhere with the same cache says so, and both end."""
        subject, other = self._empty("subject"), self._beside("other")
        first = self._started(subject, impatient=True)
        while not list(subject.cache.glob("*/.*.lock")) and first.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.5))
        stopped = [child for child in children(first.pid) if is_worker(child)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        second = self._started(other, impatient=True)
        said = [ended(second)]
        for pid in stopped:  # it held nothing, or was ended
            _continue(pid)
        said.append(ended(first))
        return self._judged("stopped owner", f"{len(stopped)} stopped", said, [subject, other], must_end_well=True)

    def _runs_at_once(self, draw: random.Random) -> Trial:
        """Runs on one cache: half of them share a folder, the others have one of their own."""
        shared = self._empty("subject")
        own = [self._beside(f"own-{i}") for i in range(self.n_runs // 2)]
        subjects = [*own, *[shared] * (self.n_runs - len(own))]
        started = []
        for subject in subjects:
            started.append(self._started(subject))
            time.sleep(draw.uniform(0, 0.3))
        said = [ended(process) for process in started]
        return self._judged("runs at once", f"{self.n_runs} runs", said, [shared, *own], must_end_well=True)

    def _reports_at_once(self, draw: random.Random) -> Trial:
        subject = self.whole.copy_to(self.place / "subject")
        started = [self._started(subject, "report", f"name={NAME}") for _ in range(4)]
        said = [ended(process) for process in started]
        return self._judged("reports at once", "4 reports", said, [subject], must_end_well=True)

    def _empty(self, name: str) -> Subject:
        subject = Subject(self.place / name)
        subject.cache.mkdir(parents=True)
        return subject

    def _beside(self, name: str) -> Subject:
        """A subject of its own folder that has its cache in common with the first."""
        (self.place / name).mkdir()
        return Subject(self.place / name, {"HARNESS_CACHE": str(self.place / "subject" / "cache")})

    def _started(self, subject: Subject, *words: str, **fault: Any) -> subprocess.Popen[str]:
        return subject.start(self.popen, *(words or _RUN), **{VARIABLE: json.dumps(fault)})

    def _run(self, subject: Subject, **fault: Any) -> tuple[int, str]:
        return ended(self._started(subject, **fault))

    def _judged(
        self,
        name: str,
        how: str,
        said: list[tuple[int, str]],
        subjects: list[Subject],
        *,
        must_end_well: bool = False,
    ) -> Trial:
        """Judge what was said under the fault, and what a run makes of each subject without it."""
        verdict, detail = self._verdict(said, subjects, must_end_well)
        return Trial(name, how, verdict, detail)

    def _verdict(
        self, said: list[tuple[int, str]], subjects: list[Subject], must_end_well: bool
    ) -> tuple[Verdict, str]:
        words = "\n".join(out for _, out in said)
        codes = [code for code, _ in said]
        if "Traceback (most recent" in words or not {0, 1, 2}.issuperset(codes):
            return "traceback", f"{codes} {words[-1500:]}"
        if must_end_well and set(codes) != {0}:
            return "stopped", f"{codes} {words[-900:]}"
        for subject in subjects:
            if set(codes) == {0} and (differs := differing(self.expected, subject.shown())):
                return "silent", f"all ended well, and {differs} differ"
            last = subject.run()
            if last.code is None or "Traceback (most recent" in last.err:
                return "traceback", last.err[-900:]
            differs = differing(self.expected, subject.shown())
            if last.code != 0 or differs:
                return "lost", f"exit code {last.code}, {differs}: {last.err[-600:]}"
        if left := processes_in(self.place):
            return "lost", f"still at work: {left}"
        return ("named" if set(codes) != {0} else "harmless"), ""


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
