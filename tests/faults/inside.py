"""Faults that a process meets from inside, as its environment asks: death at a file operation, limits, fewer
rights, another time. `begin` is called in each process that the campaigns start."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from harness.fitting.checkpoints import Checkpoints
from harness.storage import locks

VARIABLE = "HARNESS_FAULT"
_DAC_OVERRIDE = 1
"""A capability of Linux."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPERATIONS = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "sqlite3.connect",
}


def begin() -> None:
    """Do as the environment asks. Fits keep a checkpoint at each step, so that there are some."""
    Checkpoints.__init__.__defaults__ = (0.0, 1e9)  # type: ignore[misc]
    asked: dict[str, Any] = json.loads(os.environ.get(VARIABLE, "{}"))
    role = "worker" if sys.argv[0].endswith("worker") else "run"
    if asked.get("role", role) != role:
        return
    if "die" in asked:
        _die_at(**asked["die"], role=role)
    for name, limit in asked.get("limits", {}).items():
        used = _address_space() if name == "RLIMIT_AS" else 0  # beyond what the libraries have taken
        resource.setrlimit(getattr(resource, name), (used + limit, used + limit))
    if "seconds_off" in asked:
        now = time.time
        time.time = lambda: now() + asked["seconds_off"]
    if asked.get("impatient"):
        locks._SECONDS_UNTIL_SAID = 1.0
    if asked.get("bare"):
        _drop_rights()


def _die_at(operation: int, folder: str, token: str, with_parent: bool, role: str) -> None:
    """Die before the n-th operation that changes files in a folder, if the token is there; it then tells where."""
    left = operation

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if not (event in _OPERATIONS or (event == "open" and arguments[2] & _WRITING)):
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if not path.startswith(folder):
            return
        left -= 1
        if left == 0:
            try:
                Path(token).rename(f"{token}.used")
            except OSError:
                return
            Path(f"{token}.used").write_text(f"{role} {event} {path[len(folder) + 1 :]}")
            if with_parent:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _drop_rights() -> None:
    """Give up root's right to write what nobody may write; it may still read all."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of Linux's capabilities, of this process
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for part in (0, 1, 2):  # effective, permitted, inheritable
        sets[part] &= ~(1 << _DAC_OVERRIDE)
    libc.capset(header, sets)
