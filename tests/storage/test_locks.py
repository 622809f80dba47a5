"""Whoever waits for a lock says for whom, and a stopped owner does not hold it for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.storage import locks
from harness.storage.locks import owned_lock

HOLD = """
import sys
from pathlib import Path
from harness.storage.locks import owned_lock

with owned_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A process that holds the lock until it is sent a line."""
    monkeypatch.setattr(locks, "_SECONDS_UNTIL_SAID", 0.2)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "a.lock")], text=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "held\n"
    return process  # type: ignore[no-any-return]


def test_who_waits_says_for_whom_once(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        assert owner.stdin is not None
        owner.stdin.write("\n")
        owner.stdin.flush()

    with owned_lock(tmp_path / "a.lock", say):
        owner.communicate()
    assert owner.returncode == 0 and len(said) == 1
    assert f"waiting for process {owner.pid} on" in said[0] and str(tmp_path / "a.lock") in said[0]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["a.lock"])


def test_a_stopped_owner_is_named_and_ended(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    said: list[str] = []
    owner.send_signal(signal.SIGSTOP)
    with owned_lock(tmp_path / "a.lock", said.append):
        pass
    owner.communicate()
    assert owner.returncode == -signal.SIGKILL
    assert "was stopped while it held" in said[-1] and f"process {owner.pid} on" in said[-1]
