"""The file on a board in which a process says who it is, that it is there, and what it has done."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.files import sealed
from harness.storage.processes import SECONDS_PER_BEAT, Process


class Speaker:
    """A writer of lines that all who see the board read; the first, made at once, says which process it is.

    Args:
        board: the folder of the board.
        role: begins its name.
    """

    def __init__(self, board: Path, role: str) -> None:
        self.name = f"{role}-{socket.gethostname()}-{Process.current().pid}-{secrets.token_hex(4)}"
        self._file = board / "agents" / f"{self.name}.jsonl"
        self._writing, self._is_cut = threading.Lock(), False
        self.say({"event": "agent", "process": asdict(Process.current())})

    def say(self, event: dict[str, Any]) -> None:
        # Opened anew each time: on network disks others see what was written when the file is closed.
        line = sealed({**event, "at": round(time.time(), 3)}, self._file.name)
        with self._writing:
            begin = b"\n" if self._is_cut else b""  # what a full disk has cut off must not take this line with it
            self._is_cut = True
            with self._file.open("ab") as file:
                file.write(begin + line + b"\n")
            self._is_cut = False

    @contextmanager
    def present(self, at_work: Callable[[], dict[str, Any] | None] = lambda: None) -> Iterator[None]:
        """Say every few seconds that it is there, or what `at_work` gives, and at the end that it goes."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(SECONDS_PER_BEAT):
                with suppress(OSError):
                    self.say(at_work() or {"event": "beat"})

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(OSError):  # a full disk has ended it, and others find that it is gone
                self.say({"event": "left"})
