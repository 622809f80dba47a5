"""Processes that are forked from one that has the harness's libraries loaded: as much alone, and quick to start.

Such a process is a child of this one with a pid, pipes, environment and status of its own, like any other. Only the
seconds of importing are gone. Started so are the harness, its workers, and programs of tests (`python -P -c`). Tests of
the start itself, and of processes of processes, do without.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_PYTHON = [sys.executable, "-P"]
_RUN = "harness"
_STARTS = [[*_PYTHON, "-m", name] for name in ("harness.running.worker", "harness.testing.process", _RUN)]
_LIBRARIES = (
    *("pandas", "scipy.stats", "torch", "transformers.models.gpt2.modeling_gpt2"),
    "harness.plugins.methods.cpu.pursuit",  # with what numba has compiled
    *("harness.stages.fit", "harness.plugins.models.random_weights"),  # with what reads models and texts
)
_OF_RUNS = ("harness.planning.config", "harness.report.page", "harness.running.runner", "harness.latents.lookup")
"""Loaded before the first process that runs a verb, with all that they need."""
_SIGNATURE = inspect.signature(subprocess.Popen._execute_child)
_ONE_AT_A_TIME = threading.Lock()
BEGIN = "WARM_BEGIN"
"""The variable of a process that names a module, of which `begin` is called before anything else."""
_SET_CHILD_SUBREAPER = 36
"""An operation of Linux's prctl."""


@contextmanager
def warm() -> Iterator[type[subprocess.Popen]]:
    """The `subprocess.Popen` that starts processes so; the ordinary one where orphans can't be adopted."""
    if sys.platform != "linux":
        yield subprocess.Popen
        return
    ours, its = _sockets()
    command = [sys.executable, "-P", __file__, str(its.fileno())]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}  # a worker's; it is read when torch is loaded
    with ours, subprocess.Popen(command, pass_fds=[its.fileno()], env=environment):
        its.close()
        yield type("Popen", (_Popen,), {"nursery": ours})
        ours.shutdown(socket.SHUT_RDWR)  # which ends it


def _sockets() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class _Popen(subprocess.Popen):
    """Asks the nursery for what it can start; all else starts as ever."""

    nursery: socket.socket

    def _execute_child(self, *arguments: Any) -> None:
        given = _SIGNATURE.bind(self, *arguments).arguments
        words = given["args"]
        if not (isinstance(words, list) and (words[:3] == [*_PYTHON, "-c"] or words[:4] in _STARTS)):
            super()._execute_child(*arguments)
            return
        pipes = [given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        fds = [usual if fd == -1 else fd for usual, fd in enumerate((pipes[0], pipes[3], pipes[5]))]
        task = {"arguments": words[2:], "cwd": str(given["cwd"] or Path.cwd())}
        task |= {"environment": dict(given["env"] or os.environ), "new_session": given["start_new_session"]}
        with _ONE_AT_A_TIME, _adopting_orphans():
            socket.send_fds(self.nursery, [json.dumps(task).encode()], fds)
            self.pid = int(self.nursery.recv(20))
        self._child_created = True
        self._close_pipe_fds(*pipes)


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Become the parent of those processes below this one whose parent ends."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, 0)


def _forked(tasks: socket.socket) -> dict[str, Any] | None:
    """The task of a process forked from this one; in this one, None when nobody is left to send any."""
    for name in _LIBRARIES:
        import_module(name)
    gc.freeze()  # else each collection of garbage copies what the processes share
    atexit.register(gc.unfreeze)  # for libraries that tell at the end of what is left
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(tasks, 1 << 20, 3)
        except ConnectionResetError:  # it was killed before it read the last answer
            return None
        if not message:
            return None
        if json.loads(message)["arguments"][1] == _RUN:
            for name in _OF_RUNS:
                import_module(name)
        between = os.fork()
        if not between:
            parent = os.getpid()
            if os.fork():
                os._exit(0)  # for the other to be adopted
            while os.getppid() == parent:
                time.sleep(0.001)
            if json.loads(message)["new_session"]:
                os.setsid()
            with suppress(BrokenPipeError):
                tasks.send(str(os.getpid()).encode())
            tasks.close()
            return json.loads(message) | {"fds": fds}
        os.waitpid(between, 0)
        for fd in fds:
            os.close(fd)


def _become(arguments: list[str], cwd: str, environment: dict[str, str], fds: list[int], **_: Any) -> None:
    """Do what a task says, as if this process had been started for it."""
    for usual, fd in enumerate(fds):
        os.dup2(fd, usual)
        os.close(fd)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    flag, what, *rest = arguments
    sys.argv = [what if flag == "-m" else flag, *rest]
    if what == _RUN:
        _bring_nursery()
    if BEGIN in environment:
        sys.path.insert(0, str(Path(__file__).parents[2]))  # for modules of the tests
        import_module(environment[BEGIN]).begin()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if flag == "-c":
            exec(what, {"__name__": "__main__"})
            sys.exit()
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if flag == "-c" or what == _RUN:  # taking the libraries down takes longer than the rest
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code if isinstance(ended.code, int) else bool(ended.code))
        raise


def _bring_nursery() -> None:
    """Fork a nursery of its own for a process that starts others: it ends with that process, however that ends."""
    ours, its = _sockets()
    if os.fork():
        its.close()
        subprocess.Popen = type("Popen", (_Popen,), {"nursery": ours})
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours.close()
    task = _forked(its)
    if task is None:
        os._exit(0)
    _become(**task)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks for processes
    # Some library has a thread that waits, and Python warns of forks beside any; libraries start theirs anew.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    task = _forked(socket.socket(fileno=int(sys.argv[1])))
    if task is not None:
        _become(**task)
