"""Runs checks in a process of their own: a plugin that takes it down does not take down who asked.

The child, `python -m harness.testing.process`, reads one line of JSON that says what to check. It writes one with all
checks, and then one with what came of each: the first that is missing is the one that ended the process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.testing import Finding


def run_apart(kind: str, name: str, params: dict[str, Any], plugin_files: Sequence[str] = ()) -> list[Finding]:
    """What comes of all checks of something registered."""
    files = [str(Path(file).absolute()) for file in plugin_files]
    task = {"kind": kind, "name": name, "params": params, "plugin_files": files}
    # -P: a folder named harness or plugins where the user stands must not hide ours.
    command = [sys.executable, "-P", "-m", "harness.testing.process"]
    ended = subprocess.run(  # noqa: S603  # fixed words
        command, input=json.dumps(task), stdout=subprocess.PIPE, text=True, check=False
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.endswith("}")]
    if errors := [line["error"] for line in lines if "error" in line]:
        raise ConfigError(errors[0])
    if not lines:
        raise HarnessError(f"the process of the checks ended ({_how(ended.returncode)}) before the first; see above.")
    asked, *ends = lines
    findings = [Finding(**line) for line in ends]
    for number, check in enumerate(asked["checks"][len(findings) :]):
        # One at a time and in order: the first that has not ended is the one that was under way.
        problem = None if number else f"the process ended ({_how(ended.returncode)}) in this check: {_ADVICE}"
        not_checked = "the process had ended before" if number else None
        findings.append(Finding(**check, problem=problem, not_checked=not_checked))
    return findings


_ADVICE = (
    "a plugin must not call os._exit, nor crash; raise an exception that says what is wrong. What was printed is above."
)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    """Serve one task."""
    task = json.loads(sys.stdin.readline())
    # Out of the reach of plugins: what they print goes to the errors.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(line: dict[str, Any]) -> None:
        lines.write(json.dumps(line) + "\n")

    from harness.testing import _checks_of, _subject
    from harness.testing.checks import requirement, run_check

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
