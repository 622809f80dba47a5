"""Methods at one model and site, for people: the leaderboard, and the other metrics of each evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from harness.registry.metric import Metric
from harness.tables.costs import TOTAL_SECONDS
from harness.tables.declared import Declared
from harness.tables.leaderboard import ranking
from harness.tables.results import Results
from harness.views.view import (
    COMPARED,
    COST,
    EFFECT,
    FRONT,
    KEPT,
    LISTED,
    REST,
    TIER,
    Column,
    Field,
    Item,
    Line,
    View,
    known,
    measured,
    methods,
    number,
    view,
)

_PLACE = ["family", "model", "site"]
_SPARE = {"effect": EFFECT, "cost": COST, "compared": COMPARED, "listed": LISTED}


@dataclass(frozen=True)
class Place:
    """The leaderboard of one model and site."""

    model: str
    site: str
    lines: pd.DataFrame
    view: View


def places(results: Results) -> Iterator[Place]:
    """Every model and site, with its methods in the leaderboard's order; the one note says whether they are ranked."""
    for (_, model, site), lines in results.leaderboard.groupby(_PLACE, sort=False):
        fields = [*methods(lines), *_fields(lines, results.declared)]
        note = ranking(lines, results.declared)
        title = f"Methods on {model} {site}"
        yield Place(str(model), str(site), lines, view(title, fields, lines.to_dict("records"), [note]))


def evaluation_views(results: Results) -> Iterator[View]:
    """Tables of the metrics that evaluations measure and the leaderboard does not have."""
    undeclared = results.declared.undeclared(results.tables)
    for name, board in results.evaluations.items():
        unknown = [f"{metric}: evaluation {name} does not declare what it means" for metric in undeclared.get(name, ())]
        for (_, model, site), lines in board.groupby(_PLACE, sort=False):
            metrics = [metric for metric in results.metrics_of(name) if lines[metric.name].notna().any()]
            if metrics:  # if there are none, `undefined_view` has the reasons
                fields = [*methods(lines), *(measured(metric, spare=i) for i, metric in enumerate(metrics, 1))]
                title = f"{name.replace('_', ' ')} of {model} {site}"
                yield view(title, fields, lines.to_dict("records"), unknown)


def _fields(lines: pd.DataFrame, declared: Declared) -> Iterator[Field]:
    ranked, sparsity = declared.ranked, declared.sparsity
    if ranked and sparsity and lines["tier"].notna().any():
        own = f"whose {sparsity.heading} is within 10 % of its own"
        meaning = f"rank by {ranked.heading} among methods of the same budget {own}"
        yield number("tier", "tier", meaning, "{:.0f}".format, spare=TIER)
    for metric in declared.shown:
        if lines[metric.name].notna().any():
            yield measured(metric, spare=_spare(metric), is_main=metric == ranked)
    if ranked and sparsity:
        meaning = f"no other method here has a lower {sparsity.heading} and a better {ranked.heading}"
        yield Field(Column("Pareto", meaning, spare=FRONT), _front)


def _spare(metric: Metric) -> int:
    """The place of a metric among columns that can be spared: the engine's own numbers go first."""
    if metric.role == "listed" and metric.name in (*_ENGINE,):
        return REST + _ENGINE.index(metric.name)
    return _SPARE.get(metric.role, KEPT)


_ENGINE = (TOTAL_SECONDS.name, "seeds", "parameters")


def _front(line: Line) -> Item:
    return Item("yes" if known(line["pareto"]) else None)
