"""Limits on the time of a check: a plugin that never ends must not keep its author waiting for ever.

The limit is an alarm of the main thread of a POSIX system, which raises in the plugin's code as soon as Python gets a
word in. Where there is none (on Windows, in another thread, under somebody else's alarm) a check in this process has no
limit. `harness check` ends the process of the checks from outside, on every platform.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 120.0
"""Seconds that one check may take. The built-ins need a few."""


class TooLong(BaseException):
    """Raised in code that has not ended in time; no Exception, so that `except Exception` lets it pass."""


@contextmanager
def limited() -> Iterator[None]:
    """Raise `TooLong` in what runs longer, where that can be done."""
    if not _has_alarm():
        yield
        return

    def ring(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    # And every second again: an exception in a destructor or a callback gets lost.
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _has_alarm() -> bool:
    is_main = threading.current_thread() is threading.main_thread()
    return hasattr(signal, "setitimer") and is_main and signal.getitimer(signal.ITIMER_REAL)[0] == 0
