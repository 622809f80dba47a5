"""The board of a run: a folder that all its workers see, with the jobs, who has taken which, and what came of them.

It is all that workers know of each other, on one machine or on many. Files:

    jobs.json           the jobs, the most urgent first, and the code and cells that they were planned with
    claims/JOB.N        a link whose target is the name of the agent that has the job; N counts those who had it
    agents/NAME.jsonl   what an agent says, a line each: who it is, how cells ended, jobs that are done or given back

Invariants: a file has one writer, and jobs.json is never changed. A claim is made by one system call, which succeeds
for one agent only, and is never taken away: a job of an agent that is gone is claimed under the next number. Results
are no part of it: records and artefacts are in the store.
"""

from __future__ import annotations

import bisect
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.files import read_sealed, unsealed, write_sealed
from harness.running.jobs import Job
from harness.storage.processes import SECONDS_UNTIL_GONE, Process

FOLDER = "board"
_JOBS = "jobs.json"
_SECONDS_PER_WORKER = 5.0
"""Time in which another worker is started, and has read what jobs share."""


@dataclass(frozen=True)
class Claim:
    """A job that an agent has taken."""

    job: Job
    number: int
    """The number of agents that have had it, this one counted."""

    @property
    def name(self) -> str:
        return f"{self.job.id}.{self.number}"


@dataclass
class Peer:
    """An agent, by what it has said so far."""

    name: str
    process: Process
    heard_at: float
    """The time, by this machine's clock, when its file was last seen to grow."""
    worker: Process | None = None
    """The process that does its jobs."""
    left: bool = False
    """True once it has said that it goes."""
    job: str | None = None
    """The job that it is doing."""
    alone: str | None = None
    """The cell that it is doing alone, after another had gone with it."""

    @property
    def is_gone(self) -> bool:
        """True if nothing more is to be expected of it."""
        if self.left or (self.process.is_here and not self.process.runs):
            return True
        return time.monotonic() - self.heard_at > SECONDS_UNTIL_GONE


@dataclass
class Board:
    """A board as one process sees it; `refresh` reads what others have written since."""

    folder: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """Jobs that are done."""
    ended: set[str] = field(default_factory=set)
    """Keys of cells that have ended in this run."""
    put_off: set[str] = field(default_factory=set)
    """Keys of cells that this run leaves to do."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Keys of artefacts that were found damaged, and what was said of each."""
    _read: dict[str, int] = field(default_factory=dict)
    """Bytes read of each agent's file."""
    _given_back: set[str] = field(default_factory=set)
    """Names of claims that were given back."""
    _held: dict[str, tuple[Claim, str]] = field(default_factory=dict)
    """The newest claim on each job, as far as it is known, and the name of the agent that has it."""
    _unknown_since: dict[str, float] = field(default_factory=dict)
    """Names of agents that have a job and of which nothing was heard, and when that was found."""
    _missing: dict[str, set[str]] = field(default_factory=dict)
    """Jobs that are not done yet and come before a job."""
    _ready: list[tuple[int, str]] = field(default_factory=list)
    """Jobs that nothing comes before any more, with their rank, the most urgent first; taken or not."""

    def __post_init__(self) -> None:
        self._found = _identity(self.folder)
        self._rank = {job: rank for rank, job in enumerate(self.jobs)}
        self._missing = {job.id: set(job.needs) for job in self.jobs.values()}
        self._needed_by: dict[str, list[str]] = {}
        for job in self.jobs.values():
            for need in job.needs:
                self._needed_by.setdefault(need, []).append(job.id)
        self._ready = [(self._rank[job], job) for job, missing in self._missing.items() if not missing]

    @classmethod
    def make(cls, folder: Path, jobs: list[Job], made_with: Mapping[str, Any]) -> Board:
        """Put up a board in place of one that has ended."""
        if folder.exists():
            doomed = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        for name in ("claims", "agents"):
            (folder / name).mkdir(parents=True)
        write_sealed(folder / _JOBS, {"made_with": dict(made_with), "jobs": [asdict(job) for job in jobs]})
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Board:
        """The board in a folder; a StoreError if there is none, or one that is not as it was put up."""
        content = read_sealed(folder / _JOBS)
        try:
            jobs = map(Job.from_json, content["jobs"])
            board = cls(folder, {job.id: job for job in jobs}, content["made_with"])
        except (KeyError, TypeError):
            raise StoreError(
                f"{folder} is no board of a run: {_JOBS} is missing or damaged. `harness run` puts up another."
            ) from None
        for _ in board.refresh():
            pass
        return board

    @property
    def is_complete(self) -> bool:
        return len(self.done) == len(self.jobs)

    @property
    def n_cells_left(self) -> int:
        return len({key for job in self.jobs.values() for key in job.cells} - self.ended)

    @property
    def is_replaced(self) -> bool:
        """True if another run has put up a board since: it took all who work at this one for gone."""
        return _identity(self.folder) != self._found

    @property
    def is_worked_on(self) -> bool:
        """True while an agent is at work that has not left."""
        return any(not peer.is_gone for peer in self.peers.values())

    def refresh(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read what agents have said since the last time: (name, event) each; all of it must be taken."""
        for path in sorted((self.folder / "agents").glob("*.jsonl")):
            for event in self._news(path):
                self._note(path.stem, event)
                yield path.stem, event

    def claim(self, agent: str, plugin_files: tuple[str, ...] = ()) -> Claim | None:
        """Take the most urgent job that is ready; None if there is none to be had now.

        Args:
            agent: the name of who takes it.
            plugin_files: those of its last job. Others need another worker, so that of jobs which are about as urgent
                one with the same comes first.
        """
        for job in self._in_order(plugin_files):
            while (claim := self._next_claim(job)) is not None:
                if self._take(claim, agent):
                    return claim
        return None

    def _in_order(self, plugin_files: tuple[str, ...]) -> Iterator[Job]:
        """The jobs that are ready, in the order in which an agent with a worker for some plugin files takes them."""
        ready = [self.jobs[job] for _, job in self._ready]
        first = next((job for job in ready if self._next_claim(job) is not None), None)
        if first is not None and first.plugin_files != plugin_files:
            enough = first.seconds_to_end - _SECONDS_PER_WORKER
            yield from (job for job in ready if job.plugin_files == plugin_files and job.seconds_to_end >= enough)
        yield from ready

    def holds(self, claim: Claim, agent: str) -> bool:
        """True unless another agent has taken a job over, because it took this one for gone."""
        return not self._path(Claim(claim.job, claim.number + 1)).is_symlink() and self._owner(claim) == agent

    def at_work(self) -> list[tuple[Peer, list[str]]]:
        """The agents that are doing a job, with the keys of the cells that are left of it, the one at hand first."""
        busy = [peer for peer in self.peers.values() if peer.job in self.jobs and not peer.is_gone]
        ended = self.ended | self.put_off
        return [(peer, [key for key in self.jobs[str(peer.job)].cells if key not in ended]) for peer in busy]

    def deaths(self, key: str) -> int:
        """The number of agents that have gone while they did a cell alone."""
        return sum(peer.alone == key and not peer.left and peer.is_gone for peer in self.peers.values())

    def n_gone_with(self, job: Job) -> int:
        """The number of agents that have gone while they did a job."""
        return sum(peer.job == job.id and not peer.left and peer.is_gone for peer in self.peers.values())

    def _next_claim(self, job: Job) -> Claim | None:
        """The claim by which a job is to be had; None while an agent has it."""
        if job.id not in self._held:
            return Claim(job, 1)
        held, name = self._held[job.id]
        is_free = held.name in self._given_back or self._is_gone(name)
        return Claim(job, held.number + 1) if is_free else None

    def _is_gone(self, name: str) -> bool:
        """True for an agent that is gone, and for one that has never been heard of for as long as silence is borne."""
        if name in self.peers:
            return self.peers[name].is_gone
        since = self._unknown_since.setdefault(name, time.monotonic())
        return time.monotonic() - since > SECONDS_UNTIL_GONE

    def _take(self, claim: Claim, agent: str) -> bool:
        """Try to get a claim; whoever has it is known afterwards."""
        try:
            self._path(claim).symlink_to(agent)
        except FileExistsError:
            # A server of files that answers twice says so of one's own link, too.
            owner = self._owner(claim)
        except FileNotFoundError:
            raise StoreError(f"{self.folder}: another run has begun anew. Run the suite again, to join it.") from None
        else:
            owner = agent
        before = self._held.get(claim.job.id)
        self._held[claim.job.id] = claim, owner
        if owner == agent and before is not None and before[1] in self.peers:
            self._end_silent(self.peers[before[1]])
        return owner == agent

    def _end_silent(self, peer: Peer) -> None:
        """End an agent of this machine, and its worker, that runs and says nothing: it was stopped, or hangs."""
        if not peer.left and peer.is_gone:
            for process in (peer.worker, peer.process):
                if process is not None and process.is_here and process.runs and process.pid != os.getpid():
                    process.end()

    def _end(self, job: str) -> None:
        """Note that a job is done, and which others are ready by that."""
        if job in self.done or job not in self.jobs:
            return
        self.done.add(job)
        # Of files read one after another, a later one may tell of what came first.
        with suppress(ValueError):
            self._ready.remove((self._rank[job], job))
        for later in self._needed_by.get(job, ()):
            self._missing[later].discard(job)
            if not self._missing[later] and later not in self.done:
                bisect.insort(self._ready, (self._rank[later], later))

    def _owner(self, claim: Claim) -> str:
        try:
            return str(self._path(claim).readlink())
        except OSError:
            return ""

    def _path(self, claim: Claim) -> Path:
        return self.folder / "claims" / claim.name

    def _news(self, path: Path) -> Iterator[dict[str, Any]]:
        """Lines that an agent's file has had since; one that is still being written is left for the next time."""
        begin = self._read.get(path.stem, 0)
        try:
            if path.stat().st_size == begin:
                return
            with path.open("rb") as file:
                file.seek(begin)
                new = file.read()
        except (FileNotFoundError, IsADirectoryError):
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read[path.stem] = begin + len(whole)
        for line in whole.splitlines():
            # One that a full disk cut off, or that is damaged, is left out: a job that it ended is done again.
            if (event := unsealed(line, path.name)) is not None:
                yield json.loads(event + b"}")

    def _note(self, name: str, event: dict[str, Any]) -> None:
        if event["event"] == "agent":
            self.peers[name] = Peer(name, Process.from_json(event["process"]), time.monotonic())
            return
        peer = self.peers.get(name)
        if peer is None:  # its first line is lost
            return
        peer.heard_at = time.monotonic()
        match event["event"]:
            case "worker":
                peer.worker = Process.from_json(event["process"])
            case "job":
                peer.job = event["job"]
            case "job done":
                peer.job = None
                self._end(event["job"])
            case "given back":
                peer.job = None
                self._given_back.add(event["claim"])
            case "alone":
                peer.alone = event["key"]
            case "cell":
                peer.alone = None
                (self.put_off if event["status"] == "to do" else self.ended).add(event["key"])
            case "damaged":
                self.damaged[event["key"]] = event["text"]
            case "left":
                peer.left = True


def _identity(folder: Path) -> tuple[int, int] | None:
    """The file with the jobs, told from others of its name; None if there is none."""
    try:
        found = (folder / _JOBS).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
