"""The passes, batches and learning rates of an SAE's training, from the rows that the run really has."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Self

from harness.sae.config import SAEConfig

MAX_PASSES = 20
REPLAYED_TOKENS = 2_000_000
LONG_STREAM_ROWS = 10_000_000
SHORT_RUN_STEPS = 2000

WARM_UP_SHARE, MAX_WARM_UP_STEPS = 0.05, 1000
DECAY_SHARE = 0.2


@dataclass(frozen=True)
class SAESchedule:
    """Linear warm-up, a plateau, linear decay towards 0: the shape of SAEBench's suite (arXiv 2503.09532).

    Warm-up takes a share of the steps, so that short runs have a plateau too, and at most 1,000; the decay takes the
    last fifth. What the config leaves open follows from the rows:

    - passes: as many as make 2M tokens, at most 20, at least one;
    - batches of 128 to 512 rows, as large as leaves 2,000 steps, and of 2,048 from 10M rows on: small streams need
      steps, large ones need speed. On 10k rows of SmolLM2 (TopK, 20 passes) batches of 128 gave a held-out explained
      variance of .749, of 512 .724; on 30k rows .808 and .801, for 1.5 times the time;
    - a peak rate that falls with the root of the steps from 2,000 on. At SAEBench's 500M tokens (244,140 steps) this
      gives 3.6e-4 for TopK, beside the 3e-4 that they use.
    """

    passes: int
    batch_rows: int
    n_steps: int
    peak: float

    @classmethod
    def of(cls, config: SAEConfig, n_rows: int, short_run_peak: float) -> Self:
        """The schedule of a run over `n_rows` rows a pass; `short_run_peak` suits 2,000 steps or fewer."""
        passes = n_passes(n_rows, config.passes)
        batch_rows = config.batch_rows or _batch_rows(n_rows, passes)
        n_steps = passes * ceil(n_rows / batch_rows)  # every pass ends with a smaller batch
        peak = config.learning_rate or short_run_peak * min(1.0, sqrt(SHORT_RUN_STEPS / n_steps))
        return cls(passes, batch_rows, n_steps, peak)

    @property
    def repeated_share(self) -> float:
        """The share of the tokens that were seen before: 0 in a single pass, near 1 in many."""
        return 1 - 1 / self.passes

    def learning_rate(self, step: int) -> float:
        """The rate at `step`, counted from 0; above 0 at the first and at the last."""
        warm_up = min(MAX_WARM_UP_STEPS, ceil(WARM_UP_SHARE * self.n_steps))
        decay = ceil(DECAY_SHARE * self.n_steps)
        return self.peak * min(1.0, (step + 1) / warm_up, (self.n_steps - step) / decay)


def n_passes(n_rows: int, passes: int | None = None) -> int:
    """The passes over `n_rows` rows, where a config leaves them open."""
    return passes or min(MAX_PASSES, max(1, REPLAYED_TOKENS // n_rows))


def _batch_rows(n_rows: int, passes: int) -> int:
    if n_rows >= LONG_STREAM_ROWS:
        return 2048
    return max((size for size in (256, 512) if passes * n_rows >= size * SHORT_RUN_STEPS), default=128)
