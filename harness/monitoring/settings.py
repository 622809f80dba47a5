"""The settings of a monitor, which its folder keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import ConfigError

_MIN_WINDOW = 2


@dataclass(frozen=True)
class MonitorSettings:
    """Settings of how a monitor reads documents, and when it speaks."""

    context: int = 128
    """Tokens in a window, as in the capture of the fit."""
    max_norm: float | None = None
    """The norm above which rows are left out, as in the fit; None leaves out only those that are not finite."""
    horizon: float = 2000.0
    """H, the least mean number of documents until a false alarm: within n of them the probability is n / H at most."""
    window: int = 32
    """The number of documents, the last ones of the stream, in which latents are named."""
    seed: int = 0
    """Seed of the draws of tests, and of what breaks ties."""

    def __post_init__(self) -> None:
        if not 1 < self.horizon < math.inf:
            raise ConfigError(f"monitor: horizon is {self.horizon}; give a number of documents above 1, such as 2000.")
        if self.context < 1:
            raise ConfigError(f"monitor: context is {self.context}; give the tokens of a window, such as 128.")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ConfigError(f"monitor: max_norm is {self.max_norm}; give a norm above 0, or None.")
        if self.window < _MIN_WINDOW:
            raise ConfigError(f"monitor: window is {self.window}; how one document differs from others is not known.")
