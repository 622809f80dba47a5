"""Runs checks in a process of their own: a plugin that takes it down does not take down who asked.

The child, `python -m harness.testing.process`, reads one line of JSON that says what to check. It writes a line before
each check and a line with what came of it: the check under way when the process ends is the one that ended it.
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
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, HarnessError

if TYPE_CHECKING:
    from harness.testing.checks import Finding


def run_apart(kind: str, name: str, params: dict[str, Any], plugin_files: Sequence[str] = ()) -> list[Finding]:
    """What comes of all checks of something registered."""
    from harness.testing import _checks_of
    from harness.testing.checks import Finding, requirement

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
    findings = {line["check"]: Finding(**line) for line in lines if "requirement" in line}
    begun = [line["begin"] for line in lines if "begin" in line]
    if not begun:
        raise HarnessError(f"the process of the checks ended ({_how(ended.returncode)}) before the first; see above.")
    for check in _checks_of(kind):
        if check.__name__ not in findings:
            left = Finding(check.__name__, requirement(check), not_checked="the process had ended before")
            if check.__name__ == begun[-1]:
                problem = f"the process ended ({_how(ended.returncode)}) in this check: {_ADVICE}"
                left = dataclasses.replace(left, problem=problem, not_checked=None)
            findings[check.__name__] = left
    return list(findings.values())


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
    from harness.testing.checks import run_check

    try:
        subject = _subject(task["kind"], task["name"], task["params"], tuple(task["plugin_files"]))
    except HarnessError as error:
        emit({"error": str(error)})
        return
    for check in _checks_of(task["kind"]):
        emit({"begin": check.__name__})
        emit(dataclasses.asdict(run_check(check, subject)))


if __name__ == "__main__":
    main()
