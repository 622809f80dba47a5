"""Batches for which a card has no memory, done in halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

T = TypeVar("T", bound=Any)
R = TypeVar("R")


class Halving:
    """Runs batches whose numbers agree however they are cut: those for which a card has no memory, in halves."""

    def __init__(self) -> None:
        self._most: int | None = None
        """Items in a batch at most, once one did not fit."""

    def run(self, items: T, work: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """The parts that a sequence or tensor was cut into, in order, and what work on each gives.

        What has no room for one item alone is raised.
        """
        while len(items):
            part = items[: self._most]
            done = self._tried(part, work)
            if done:
                yield part, done[0]
                items = items[len(part) :]
            else:
                self._most = -(-len(part) // 2)
                torch.cuda.empty_cache()

    @staticmethod
    def _tried(part: T, work: Callable[[T], R]) -> tuple[R] | None:
        try:
            return (work(part),)
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            return None
