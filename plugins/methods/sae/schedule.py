"""The learning rate of every step, from the steps that a run will really take."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

WARM_UP_SHARE, MAX_WARM_UP_STEPS = 0.05, 1000
DECAY_SHARE = 0.2


def count_steps(n_rows: int, batch_rows: int, passes: int) -> int:
    """Each pass ends with a smaller batch, so steps are rounded up pass by pass."""
    return passes * ceil(n_rows / batch_rows)


def default_passes(n_rows: int) -> int:
    """As many as make a million tokens, at most 20."""
    return max(1, min(20, 1_000_000 // n_rows))


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, a plateau, linear decay towards 0: the shape that SAEBench's suite uses (arXiv 2503.09532).

    Warm-up takes a share of the steps, so that short runs have a plateau too, and at most 1,000; the decay takes the
    last fifth.
    """

    n_steps: int

    def rate(self, step: int) -> float:
        """The factor of the learning rate at `step`, counted from 0; above 0 at the first and at the last."""
        warm_up = min(MAX_WARM_UP_STEPS, ceil(WARM_UP_SHARE * self.n_steps))
        decay = ceil(DECAY_SHARE * self.n_steps)
        return min(1.0, (step + 1) / warm_up, (self.n_steps - step) / decay)
