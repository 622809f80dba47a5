"""Presence of processes, of this machine and of others: which of those that share a folder are still at work.

A process of this machine is asked for. One of another machine is at work while its file grows, or is touched.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_UNTIL_GONE = 60.0
"""Silence after which a process of another machine counts as gone; it is heard of every `SECONDS_PER_BEAT`."""
SECONDS_PER_BEAT = 5.0
_SECONDS_PER_LOOK = 0.5


@dataclass(frozen=True)
class Process:
    """A process that can be told from all others, of other machines and other times too."""

    machine: str
    """The machine, its boot and its container: within one, process ids mean the same."""
    pid: int
    started: str
    """The start of the process, in the words of its machine: process ids are used again."""

    @classmethod
    def current(cls) -> Process:
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process of this machine that has this number now."""
        return cls(_machine(), pid, _started(pid))

    @classmethod
    def from_json(cls, data: Any) -> Process:
        return cls(data["machine"], data["pid"], data["started"])

    @property
    def is_here(self) -> bool:
        """True for a process of this machine, which can be asked for."""
        return self.machine == _machine()

    @property
    def runs(self) -> bool:
        """True while a process of this machine runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return _started(self.pid) == self.started

    @property
    def is_stopped(self) -> bool:
        """True for a process of this machine that was stopped, as by Ctrl-Z, and so holds what it holds for ever."""
        return self.is_here and self.runs and _after_name(self.pid)[:1] in (["T"], ["t"])

    def end(self) -> None:
        """Kill a process of this machine, with the group that it leads, if any; another user's stays."""
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.machine.partition(' ')[0]}"


def end_with_parent(end: Callable[[], None]) -> None:
    """Watch the parent, and end when it has gone: one that was killed can't stop what it has started."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_PER_LOOK)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _machine() -> str:
    return " ".join([socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid")])


def _started(pid: int) -> str:
    """The time at which a process started, in ticks since boot; empty where the system does not tell."""
    return next(iter(_after_name(pid)[19:20]), "")


def _after_name(pid: int) -> list[str]:
    """The fields of a process's status after its name, which may hold anything: its state comes first."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
