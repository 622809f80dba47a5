"""Whoever waits for a lock says for whom, and a stopped owner does not hold it for ever."""

from __future__ import annotations

import getpass
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.storage import locks
from harness.storage.locks import file_lock, owned_lock
from tests.support.another_user import another_user, needs_another_user, run_as_another

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
    monkeypatch.setattr(locks, "_LOOKS_UNTIL_ENDED", 2)
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
    assert f"({getpass.getuser()}, since 20" in said[0]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["a.lock"])


def test_an_owner_that_is_not_known_is_waited_for_with_a_word(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    (tmp_path / "a.lock.owner").write_text("{")
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        owner.communicate("\n")

    with owned_lock(tmp_path / "a.lock", say):
        pass
    assert said == [f"waiting for another process, which holds {tmp_path / 'a.lock'}"]


def test_a_stopped_owner_is_named_and_ended(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    said: list[str] = []
    owner.send_signal(signal.SIGSTOP)
    with owned_lock(tmp_path / "a.lock", said.append):
        pass
    owner.communicate()
    assert owner.returncode == -signal.SIGKILL
    assert "was stopped while it held" in said[-1] and f"process {owner.pid} on" in said[-1]


LOCK = """
import sys
from pathlib import Path
from harness.storage.locks import file_lock, owned_lock

with owned_lock(Path(sys.argv[1]), print):
    print("held")
"""


@needs_another_user
def test_a_lock_of_another_user_is_held_all_the_same(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    tmp_path.chmod(0o777)
    assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o644  # may be read only
    waiting: list[str] = []
    thread = threading.Thread(target=lambda: waiting.append(run_as_another(LOCK, tmp_path / "a.lock").stdout))
    thread.start()
    thread.join(1)
    assert not waiting
    owner.communicate("\n")
    thread.join()
    assert waiting[0].splitlines()[-1] == "held"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can get to and write in; pytest's own are for one alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@needs_another_user
def test_a_lock_that_can_not_even_be_read_holds_nobody_up(open_folder: Path) -> None:
    said: list[str] = []
    (open_folder / "a.lock").touch(0o600)
    with another_user(), owned_lock(open_folder / "a.lock", said.append):
        pass
    assert len(said) == 1 and "a.lock can't be locked (Permission denied); going on without it" in said[0]


@needs_another_user
def test_where_nothing_can_be_made_the_folder_is_named(open_folder: Path) -> None:
    open_folder.chmod(0o755)
    with (
        another_user(),
        pytest.raises(StoreError, match=rf"nothing can be made in {open_folder}: Permission denied\."),
        owned_lock(open_folder / "a.lock", pytest.fail),
    ):
        pass


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("nowhere/at/all"), lambda path: path.mkdir()])
def test_what_stands_in_the_place_of_a_lock_is_set_aside(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.lock")
    with file_lock(tmp_path / "a.lock"):
        assert (tmp_path / "a.lock").is_file()
    assert len(list(tmp_path.glob("a.lock.damaged-*"))) == 1
