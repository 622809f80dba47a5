"""Runs checks in a process of their own: a plugin that takes it down does not take down who asked.

The child, `python -m harness.testing.process`, reads one line of JSON that says what to check. It writes one with all
checks, and then one with what came of each: the first that is missing is the one that ended the process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.testing import Finding, limits


def run_apart(kind: str, name: str, params: dict[str, Any], plugin_files: Sequence[str] = ()) -> list[Finding]:
    """Run all checks of something registered in a process of their own."""
    files = [str(Path(file).absolute()) for file in plugin_files]
    word = secrets.token_hex(8)
    task = {"kind": kind, "name": name, "params": params, "plugin_files": files, "seconds": limits.SECONDS}
    # -P: a folder named harness or plugins where the user stands must not hide ours.
    command = [sys.executable, "-P", "-m", "harness.testing.process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace")  # noqa: S603  # fixed words
    with process:
        written, is_late = _told(process, json.dumps(task | {"word": word}), word)
    lines = [json.loads(line) for line in written if line.endswith("}\n")]
    if errors := [line["error"] for line in lines if "error" in line]:
        raise ConfigError(errors[0])
    if not lines:
        how = f"it took over {_START_SECONDS:g} s" if is_late else _how(process)
        raise HarnessError(f"the process of the checks ended ({how}) before the first; see above.")
    how = f"the process was ended after {limits.SECONDS:g} s" if is_late else f"the process ended ({_how(process)})"
    asked, *ends = lines
    findings = [Finding(**line) for line in ends]
    advice = _STUCK_ADVICE if is_late else _ADVICE
    for number, check in enumerate(asked["checks"][len(findings) :]):
        # One at a time and in order: the first that has not ended is the one that was under way.
        problem = None if number else f"{how} in this check: {advice}"
        not_checked = "the process had ended before" if number else None
        findings.append(Finding(**check, problem=problem, not_checked=not_checked))
    return findings


def _told(process: subprocess.Popen[str], task: str, word: str) -> tuple[list[str], bool]:
    """The lines it writes when given a task, and True if it was ended because none came for too long.

    What does not begin with the word is a plugin's.
    """
    assert process.stdin is not None and process.stdout is not None  # opened as pipes
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    with suppress(BrokenPipeError):  # it died at once
        process.stdin.write(f"{task}\n")
        process.stdin.flush()
    lines: list[str] = []
    while True:
        alarm = threading.Timer(limits.SECONDS + _GRACE_SECONDS if lines else _START_SECONDS, end)
        alarm.daemon = True  # Ctrl-C waits for none
        alarm.start()
        line = process.stdout.readline()
        alarm.cancel()
        if not line:
            return lines, is_late.is_set()
        if line.startswith(word):
            lines.append(line.removeprefix(word))


_START_SECONDS = 300.0
"""Seconds to import torch and the plugin."""
_GRACE_SECONDS = 10.0
"""Seconds to wait longer than the alarm in the process itself, which can say where the plugin was."""
_ADVICE = (
    "a plugin must not call os._exit, nor crash; raise an exception that says what is wrong. What was printed is above."
)
_STUCK_ADVICE = (
    "nothing could interrupt it. An endless loop in compiled code, or around a bare `except`? What is only slow can be "
    "checked with parameters that make it quick."
)


def _how(process: subprocess.Popen[str]) -> str:
    code = process.returncode
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    """Serve one task."""
    task = json.loads(sys.stdin.readline())
    # Out of the reach of plugins: what they print goes to the errors.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(line: dict[str, Any]) -> None:
        lines.write(f"\n{task['word']}{json.dumps(line)}\n")

    from harness.testing import _checks_of, _subject
    from harness.testing.checks import requirement, run_check

    limits.SECONDS = task["seconds"]
    try:
        subject = _subject(task["kind"], task["name"], task["params"], tuple(task["plugin_files"]))
    except HarnessError as error:
        emit({"error": str(error)})
        return
    checks = _checks_of(task["kind"])
    emit({"checks": [{"check": check.__name__, "requirement": requirement(check)} for check in checks]})
    for check in checks:
        emit(dataclasses.asdict(run_check(check, subject)))


if __name__ == "__main__":
    main()
