"""Costs of captures and decompositions, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from harness.registry.metric import Metric, metric_named
from harness.tables.costs import COSTS
from harness.views.view import Field, View, budgets, label, measured, view, words

_PLACE = [words("model", "model"), words("site", "site")]


def cost_views(costs: pd.DataFrame) -> Iterator[View]:
    """Tables of captures and of decompositions with a column for each cost; several seeds are averaged."""
    known = costs[costs["metric"].notna() & costs["higher_is_better"].notna()]
    captures, fits = known[known["method"].isna()], known[known["method"].notna()]
    yield from _view("Captures", captures, ["model", "site", "split", "fit_tokens"], words("split", "rows of"))
    keys = ["model", "site", "fit_tokens", "method", "method_config", "method_label"]
    yield from _view("Decompositions", fits, keys, label("method"))


def _view(title: str, lines: pd.DataFrame, keys: Sequence[str], what: Field) -> Iterator[View]:
    wide = lines.pivot_table(index=keys, columns="metric", values="value", sort=False, dropna=False, observed=True)
    wide = wide.dropna(how="all").reset_index()
    if len(wide):
        metrics = [_cost(name) for name in dict.fromkeys(lines["metric"])]
        fields = [*_PLACE, what, *budgets(lines), *map(measured, metrics)]
        yield view(title, fields, wide.to_dict("records"))


def _cost(name: str) -> Metric:
    """The metric of a cost by its name; a method may report costs of its own."""
    return metric_named(name, COSTS) or Metric(name, name.replace("_", " "), "", format=",.0f")
