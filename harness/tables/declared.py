"""Metrics as evaluations declare them: those with a column on a suite's leaderboard, and the meaning of all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from harness.planning.suite import Suite
from harness.registry.metric import Metric, Role, interval_columns, metric_named
from harness.tables.costs import FIT_SECONDS, PARAMETERS, SEEDS, TOTAL_SECONDS

_ON_LEADERBOARD: tuple[Role, ...] = ("sparsity", "quality", "compared", "effect", "listed", "cost")
_MAIN: tuple[Role, ...] = ("quality", "sparsity", "effect", "cost")


@dataclass(frozen=True)
class Declared:
    """The metrics of a suite; where two evaluations declare one name, the first has the leaderboard's column.

    A metric that is called as a column of another one's interval has none there: it is in its own table.
    """

    by_evaluation: Mapping[str, tuple[Metric, ...]]

    @classmethod
    def of(cls, suite: Suite) -> Declared:
        return cls(suite.metrics)

    @cached_property
    def columns(self) -> dict[str, tuple[str, Metric]]:
        """The leaderboard's metrics, each with its evaluation, by name and in the order of their roles."""
        found: dict[str, tuple[str, Metric]] = {}
        declared = [metric for metrics in self.by_evaluation.values() for metric in metrics]
        taken = {name for metric in declared if metric.has_interval for name in interval_columns(metric.name)}
        for role in _ON_LEADERBOARD:
            for evaluation, metrics in self.by_evaluation.items():
                for metric in metrics:
                    if metric.role == role and metric.name not in taken:
                        found.setdefault(metric.name, (evaluation, metric))
        return found

    @property
    def compared(self) -> list[Metric]:
        """The leaderboard's metrics that get an interval if their evaluation gives sums by document."""
        return [metric for _, metric in self.columns.values() if metric.has_interval]

    @property
    def ranked(self) -> Metric | None:
        """The metric that methods are ranked by; None if no evaluation declares a quality."""
        return next(self.playing("quality"), None)

    @property
    def sparsity(self) -> Metric | None:
        """The metric in which ranked methods must be nearly equal; None if no evaluation declares a sparsity."""
        return next(self.playing("sparsity"), None)

    @property
    def main(self) -> list[Metric]:
        """The metrics that summaries hold: quality, sparsity, effects and costs."""
        return list(self.playing(*_MAIN))

    @property
    def shown(self) -> list[Metric]:
        """The metrics that leaderboards show to people, in the order of columns."""
        return [*(metric for _, metric in self.columns.values()), FIT_SECONDS, TOTAL_SECONDS, PARAMETERS, SEEDS]

    @property
    def axes(self) -> list[tuple[Metric, Metric]]:
        """The pairs (x, y) of metrics to plot: qualities against sparsity and costs, effects against sparsity."""
        sparsity = [self.sparsity] if self.sparsity else []
        qualities = [(x, y) for x in (*sparsity, *self.playing("cost")) for y in self.playing("quality")]
        return qualities + [(x, y) for x in sparsity for y in self.playing("effect")]

    def playing(self, *roles: Role) -> Iterator[Metric]:
        """The leaderboard's metrics of these roles, with the engine's own costs."""
        return (metric for metric in (*(own for _, own in self.columns.values()), FIT_SECONDS) if metric.role in roles)

    def of_name(self, evaluation: str, name: str) -> Metric:
        """A metric as an evaluation declares it, or one with a bare name if it declares nothing."""
        found = metric_named(name, self.by_evaluation.get(evaluation, ()))
        return found or Metric(name, name.replace("_", " "), "")

    def is_on_leaderboard(self, evaluation: str, name: str) -> bool:
        return name in self.columns and self.columns[name][0] == evaluation

    def undeclared(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
        """The metrics that stand in an evaluation's table but are not declared by it, by evaluation."""
        found = {
            name: [
                metric for metric in tables[name]["metric"].dropna().unique() if metric_named(metric, metrics) is None
            ]
            for name, metrics in self.by_evaluation.items()
            if name in tables
        }
        return {name: metrics for name, metrics in found.items() if metrics}
