"""Clocks of a learner's own steps, which on a card are read from its events: nothing waits for it, step by step."""

from __future__ import annotations

import time
from collections import deque

import torch

_PENDING_STEPS = 64
_left_out = (0.0, 0.0)
"""Wall and processor seconds that are no learner's own, of all that this process has done."""


def leave_out(seconds: float, cpu_seconds: float) -> None:
    """Leave time that has just passed out of the learner's own: that in which its code was compiled, say.

    Args:
        seconds: of the clock.
        cpu_seconds: of the processor.
    """
    global _left_out
    _left_out = _left_out[0] + seconds, _left_out[1] + cpu_seconds


class Clock:
    """The seconds between `start` and `stop`, summed until they are taken.

    A card runs behind the program, so its steps begin and end where it comes by: what another learner had it do before
    is not counted. Of other accelerators the program waits for every step. What is to be left out is subtracted: a card
    stands still while code for it is compiled.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = self._seconds = self._cpu_started = self._cpu_seconds = 0.0
        self._left_out = _left_out
        self._pending: deque[tuple[torch.cuda.Event, torch.cuda.Event, float]] = deque()
        self._event: torch.cuda.Event | None = None

    def start(self) -> None:
        """Begin a step."""
        if self._device.type == "cuda":
            self._event = self._now()
        else:
            self._wait()
        self._started, self._cpu_started, self._left_out = time.perf_counter(), self._cpu_time(), _left_out

    def reached(self) -> None:
        """Mark that the step has been given to the device; an error of it may show here."""
        if self._event is None:
            self._wait()
            return
        self._pending.append((self._event, self._now(), _left_out[0] - self._left_out[0]))
        self._event = None

    def stop(self) -> None:
        """End the step."""
        if self._device.type != "cuda" or self._event is not None:  # it was not reached: the program alone is timed
            self._seconds += max(0.0, time.perf_counter() - self._started - (_left_out[0] - self._left_out[0]))
        self._cpu_seconds += max(0.0, self._cpu_time() - self._cpu_started - (_left_out[1] - self._left_out[1]))
        self._event = None

    def taken(self, wait: bool = False) -> tuple[float, float]:
        """Wall and processor seconds since they were taken last; of a card, of the steps that it has done.

        Args:
            wait: for all steps.
        """
        if wait and self._pending:
            self._pending[-1][1].synchronize()
        while self._pending and (wait or len(self._pending) > _PENDING_STEPS) and self._pending[0][1].query():
            begun, ended, left_out = self._pending.popleft()
            self._seconds += max(0.0, begun.elapsed_time(ended) / 1000 - left_out)
        found = self._seconds, self._cpu_seconds
        self._seconds = self._cpu_seconds = 0.0
        return found

    def _now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _wait(self) -> None:
        if self._device.type not in ("cpu", "cuda"):
            torch.accelerator.synchronize(self._device)

    def _cpu_time(self) -> float:
        # Beside a card other threads read rows ahead, for all learners.
        return time.thread_time() if self._device.type == "cuda" else time.process_time()
