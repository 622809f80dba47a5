"""A metric as the axis of a plot: what is drawn of it, on which scale, and what that can't show."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from harness.registry.metric import Metric, ends

_MIN_SPARSITY_SPAN = 4.0
"""Factor that an axis of sparsity spans at least, so that methods of nearly equal sparsity look so."""
_ON_LOG_SCALES = ("sparsity", "cost")


@dataclass(frozen=True)
class Axis:
    """A metric of a board's lines, as an axis. A quality that is 1 at best is drawn as 1 − its value."""

    metric: Metric
    is_lack: bool

    @classmethod
    def of(cls, metric: Metric, board: pd.DataFrame) -> Axis:
        """Make the axis of a metric; a quality above 1 on the board shows that 1 is not its best."""
        is_share = metric.role == "quality" and bool(metric.higher_is_better) and not (board[metric.name] > 1).any()
        return cls(metric, is_share)

    @property
    def label(self) -> str:
        return f"1 − {self.metric.heading}" if self.is_lack else self.metric.heading

    @property
    def is_log(self) -> bool:
        return self.is_lack or self.metric.role in _ON_LOG_SCALES

    @property
    def less_is_better(self) -> bool:
        return self.is_lack or not self.metric.higher_is_better

    def values(self, lines: pd.DataFrame) -> pd.Series[float]:
        """The places of lines on the axis."""
        return 1 - lines[self.metric.name] if self.is_lack else lines[self.metric.name]

    def bars(self, lines: pd.DataFrame) -> list[list[list[float]] | None]:
        """The reach of each line's interval below and above its place; None for a line without an interval."""
        low, high = (lines.get(end, pd.Series(np.nan, lines.index)) for end in ends(self.metric.name))
        low, high = (1 - high, 1 - low) if self.is_lack else (low, high)
        here = self.values(lines)
        reach = zip((here - low).clip(lower=0), (high - here).clip(lower=0), strict=True)
        return [None if np.isnan(below) or np.isnan(above) else [[below], [above]] for below, above in reach]

    def holds(self, lines: pd.DataFrame) -> pd.Series[bool]:
        """True for lines that the scale can show."""
        return self.values(lines) > 0 if self.is_log else self.values(lines).notna()

    def draw(self, axes: Axes, side: Literal["x", "y"], lines: pd.DataFrame) -> None:
        """Set scale and ticks of one side of a plot. Ticks are plain numbers, where a log scale would write powers."""
        axis, values = axes.xaxis if side == "x" else axes.yaxis, self.values(lines)
        if self.is_log and len(values):
            low, high = values.min(), values.max()
            if self.metric.role == "sparsity" and high / low < _MIN_SPARSITY_SPAN:
                low, high = (np.sqrt(low * high) * _MIN_SPARSITY_SPAN**power for power in (-0.5, 0.5))
                axes.set(**{f"{side}lim": (low, high)})
            fine = (1.0, 2.0, 5.0) if high / low > 8 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
            axes.set(**{f"{side}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 100 else fine))
            axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def left_out(lines: pd.DataFrame, *axes: Axis) -> list[str]:
    """Lines of text that name the methods which a log scale can't show."""
    reasons = [
        f"{method} ({axis.label} {value:.2g})"
        for axis in axes
        for method, value in zip(lines["method"], axis.values(lines), strict=True)
        if axis.is_log and value <= 0
    ]
    return textwrap.wrap(f"not on a log scale: {', '.join(dict.fromkeys(reasons))}", 60) if reasons else []
