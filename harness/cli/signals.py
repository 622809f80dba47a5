"""Signals that end a run: what is being done is given back first, so that others, or a later run, take it up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Schedulers send the first before they take a machine away, and some the second, ahead of it.
_ENDING = ("SIGTERM", "SIGUSR2")


class Ended(BaseException):
    """A signal has come that ends the run."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number

    def by_signal(self) -> int:
        """End this process by the signal, so that whoever started it sees why."""
        signal.signal(self.signal_number, signal.SIG_DFL)
        os.kill(os.getpid(), self.signal_number)
        return 128 + self.signal_number  # where the signal is blocked


@contextmanager
def ending_well() -> Iterator[None]:
    """Turn signals that end a process into `Ended`, for the time of a run."""
    if threading.current_thread() is not threading.main_thread():  # only there Python lets signals be handled
        yield
        return
    before = {number: signal.signal(number, _end) for name in _ENDING if (number := getattr(signal, name, None))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(signal_number: int, _: FrameType | None) -> None:
    signal.signal(signal_number, signal.SIG_IGN)  # a second one shall not break off what the first began
    raise Ended(signal_number)
