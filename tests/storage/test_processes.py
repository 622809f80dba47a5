"""Processes are told apart, and known to run or not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from harness.storage.processes import Process


def test_this_process_runs_here() -> None:
    own = Process.current()
    assert own.is_here and own.runs and own.pid == os.getpid()
    assert str(own).startswith(f"process {os.getpid()} on ")


def test_a_process_that_has_ended_does_not_run() -> None:
    child = subprocess.Popen(["sleep", "60"])
    code = f"from harness.storage import processes; print(processes._started({child.pid}))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    process = replace(Process.current(), pid=child.pid, started=started)
    assert process.runs
    child.kill()
    child.wait()
    assert not process.runs


def test_a_number_that_was_given_again_is_another_process() -> None:
    assert not replace(Process.current(), started="1").runs
    assert not replace(Process.current(), machine="elsewhere").is_here
