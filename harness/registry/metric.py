"""A metric of an evaluation, declared once: how it is called, what it means, and which part it plays where results are
shown. Leaderboards, plots, the page, W&B and the reference read it from here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from harness import wording
from harness.errors import PluginError, suggest

Role = Literal["quality", "sparsity", "effect", "compared", "listed", "cost", "detail"]
ROLES: tuple[str, ...] = get_args(Role)
_WRITERS = {"short": wording.short, "seconds": wording.seconds, "bytes": wording.size}
_NAME = re.compile(r"\w+")
_FAMILY = re.compile(r"\w*\*\w*")
_WITH_INTERVAL = ("quality", "compared", "effect")
TAKEN_NAMES = (
    *("family", "model", "site", "fit_tokens", "method", "method_config", "method_label", "seed", "seeds"),
    *("trained_at", "seeds_vary", "matched_l0", "pareto", "tier"),
    *("capture_seconds", "fit_seconds", "fit_cpu_seconds", "total_seconds", "parameters"),
)
"""Columns that tables and leaderboards have themselves, beside those of metrics."""


@dataclass(frozen=True)
class Metric:
    """One metric, or a family of metrics whose names differ in one part.

    Args:
        name: as `TableRow.metric` has it. `*` stands for what differs in a family, such as `auc_*`; of several that
            fit a name, the first one declared counts.
        heading: for people, with its unit: `CE increase (nats)`. A `*` is filled in.
        meaning: half a sentence that says how to read it.
        higher_is_better: None where neither direction is better. Counts where a row does not say it.
        format: how numbers are written, as in `format(value, ".3f")`; or `short`, with four significant digits, or
            `seconds`, or `bytes`.
        role: the part it plays.
            `quality`: the first one of a suite ranks methods. A column of leaderboards with an interval, plotted
            against sparsity and costs, and in W&B's summary. Where 1 is the best there can be, plots show what it lacks
            of it.
            `sparsity`: the first one of a suite is what methods must have in common to be ranked.
            `effect`: a column of leaderboards with an interval, plotted against sparsity, and in W&B's summary.
            `cost`: a column of leaderboards, which qualities are plotted against, and in W&B's summary.
            `compared`: a column of leaderboards with an interval.
            `listed`: a column of leaderboards.
            `detail`: shown in the evaluation's own table alone.
        lowest: the least value that there can be, where its interval ends at the latest; None if there is none.
        highest: the greatest value that there can be. A share has both: where all documents agree on 0 or 1, its
            interval says how many they are.

    Intervals need sums by document, `TableRow.documents`, and several seeds.
    """

    name: str
    heading: str
    meaning: str
    higher_is_better: bool | None = None
    format: str = "short"
    role: Role = "detail"
    lowest: float | None = None
    highest: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of its values."""
        return -math.inf if self.lowest is None else self.lowest, math.inf if self.highest is None else self.highest

    @property
    def is_family(self) -> bool:
        """True for a family of metrics."""
        return "*" in self.name

    @property
    def is_on_leaderboard(self) -> bool:
        return self.role != "detail"

    @property
    def has_interval(self) -> bool:
        """True if leaderboards have the ends of its interval, as columns of their own."""
        return self.role in _WITH_INTERVAL

    def write(self, value: float) -> str:
        """A number of this metric as text."""
        write = _WRITERS.get(self.format)
        return write(value) if write else format(value, self.format)

    def named(self, name: str) -> Metric | None:
        """The metric of this name; None where this is not it, nor a family that it belongs to."""
        pattern = re.escape(self.name).replace(r"\*", "(.+)")
        if (match := re.fullmatch(pattern, name)) is None:
            return None
        return replace(self, name=name, heading=self.heading.replace("*", "".join(match.groups()).replace("_", " ")))


def metric_named(name: str, declared: tuple[Metric, ...]) -> Metric | None:
    """The first of the declared metrics that fits a name."""
    return next((found for metric in declared if (found := metric.named(name)) is not None), None)


def ends(metric: str) -> tuple[str, str]:
    """The names of the ends of a metric's interval."""
    return f"{metric}_low", f"{metric}_high"


def interval_columns(metric: str) -> tuple[str, str, str]:
    """The columns that leaderboards have beside a metric with an interval: its ends, and the number of documents."""
    return *ends(metric), f"{metric}_documents"


def check_metrics(metrics: object, where: str) -> None:
    """Raise a PluginError where these are not metrics, or two of them want one column of a table."""
    if not isinstance(metrics, tuple) or not all(isinstance(metric, Metric) for metric in metrics):
        raise PluginError(f"{where}: metrics is {metrics!r:.80}; give a tuple of harness.Metric.")
    for metric in metrics:
        _check_metric(metric, f"{where}: Metric {metric.name!r}")
    names = [metric.name for metric in metrics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PluginError(f"{where}: metrics declares {', '.join(twice)} twice.")
    intervals = {
        name: metric.name for metric in metrics if metric.has_interval for name in interval_columns(metric.name)
    }
    for metric in metrics:
        if metric.is_on_leaderboard and metric.name in intervals:
            raise PluginError(
                f"{where}: Metric {metric.name!r} is called as a column of the interval that leaderboards have of "
                f"{intervals[metric.name]!r}; give it another name, or the role 'detail'."
            )


def _check_metric(metric: Metric, where: str) -> None:
    for name in ("name", "heading", "meaning", "format"):
        if not isinstance(getattr(metric, name), str):
            raise PluginError(f"{where}: {name} is {getattr(metric, name)!r:.80}; give a text.")
    if not isinstance(metric.higher_is_better, bool | None):
        raise PluginError(f"{where}: higher_is_better is {metric.higher_is_better!r:.80}; say True, False or None.")
    for name in ("lowest", "highest"):
        if not isinstance(getattr(metric, name), int | float | None):
            raise PluginError(f"{where}: {name} is {getattr(metric, name)!r:.80}; give a number, or None.")
    if not metric.bounds[0] < metric.bounds[1]:
        raise PluginError(f"{where}: lowest is {metric.lowest}, which is not below highest, {metric.highest}.")
    if metric.role not in ROLES:
        raise PluginError(f"{where}: unknown role {metric.role!r:.80}.{suggest(str(metric.role), ROLES)}")
    if not _NAME.fullmatch(metric.name) and not _FAMILY.fullmatch(metric.name):
        raise PluginError(f"{where}: a name holds only letters, digits and '_', and one '*' at most.")
    if metric.name in TAKEN_NAMES:
        raise PluginError(f"{where}: tables have a column of that name themselves; give it another one.")
    if metric.is_family and metric.is_on_leaderboard:
        raise PluginError(f"{where}: a family can only be 'detail'; declare what is {metric.role} by name.")
    try:
        metric.write(0.5)
    except (ValueError, TypeError) as error:
        raise PluginError(f"{where}: format {metric.format!r} writes no number: {error}.") from error
