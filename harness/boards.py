"""The boards of a suite as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pandas as pd

from harness.keys import canonical_json
from harness.leaderboard import ranking
from harness.results import Results
from harness.suite import Suite

_PLACE = ["model", "site"]
_HEADINGS = {
    "l0": "L0",
    "tier": "tier",
    "explained_variance": "expl. variance",
    "interval": "95 %",
    "cosine_error": "1 − cos",
    "ce_increase": "CE increase",
    "alive_fraction": "alive",
    "fit_seconds": "fit s",
    "total_seconds": "with capture",
    "parameters": "params",
    "seeds": "seeds",
    "pareto": "Pareto",
}

Labels: TypeAlias = Mapping[Any, str]
"""By name and config, as the tables have them."""
Drawn: TypeAlias = tuple[str, list[str], list[list[Any]]]
"""Title, columns and rows of a table."""


def for_terminal(results: Results, suite: Suite) -> Iterator[Drawn]:
    """Methods by model and site, similarities by metric, scores of latents by model and site."""
    entries = (*suite.methods, *suite.similarities)
    labels = {(entry.name, canonical_json(dict(entry.params))): entry.label for entry in entries} | {("", ""): ""}
    has_budgets = len(suite.config.tokens.fit_budgets) > 1
    for (model, site), place in results.leaderboard.groupby(_PLACE, sort=False):
        shown = _methods(place, labels, has_budgets)
        texts = {
            "interval": _interval_texts(place),
            "pareto": ["yes" if mark else None for mark in place["pareto"].fillna(False)],
        }
        yield _table(f"{model} {site} ({ranking(place)})", shown, _HEADINGS, {**dict(place.items()), **texts})
    yield from _pairs(results.similarities, labels)
    for (model, site), place in results.interpretability.groupby(_PLACE, sort=False):
        yield _scores(f"latents of {model} {site}", place, labels, has_budgets)


def _methods(place: pd.DataFrame, labels: Labels, has_budgets: bool) -> pd.DataFrame:
    """The columns that say what a line is about."""
    methods = zip(place["method"], place["method_config"], strict=True)
    shown = pd.DataFrame({"method": [labels[method] for method in methods]}, dtype=object)
    if has_budgets:
        shown["fit tokens"] = place["fit_tokens"].tolist()
    return shown


def _table(title: str, shown: pd.DataFrame, headings: Mapping[str, str], columns: Mapping[Any, Any]) -> Drawn:
    """`shown` and the columns that hold something."""
    for name, heading in headings.items():
        column = pd.Series(columns.get(name), dtype=object)
        if column.notna().any():
            shown[heading] = column.where(column.notna(), None).tolist()
    return f"\n{title}", list(shown.columns), shown.to_numpy(object).tolist()


def _scores(title: str, place: pd.DataFrame, labels: Labels, has_budgets: bool) -> Drawn:
    """A line per method and a column per scorer; intervals and controls are the report's to show."""
    scorers = place["scorer"] + " " + place["metric"]
    headings = dict(
        zip(scorers, scorers.str.replace("_", " ") + place["chance"].map(" (chance {:g})".format), strict=True)
    )
    fits = ["method", "method_config", "fit_tokens"]
    values = place.assign(column=scorers).pivot_table(index=fits, columns="column", values="value", sort=False)
    shares = place.groupby(fits, sort=False)[["dead_share", "rare_share"]].first()
    wide = values.join(shares).reset_index()
    headings |= {"dead_share": "dead", "rare_share": "rare"}
    return _table(title, _methods(wide, labels, has_budgets), headings, dict(wide.items()))


def _pairs(similarities: pd.DataFrame, labels: Labels) -> Iterator[Drawn]:
    for (metric, config), lines in similarities.groupby(["similarity", "similarity_config"], sort=False):
        rows = []
        for row in lines.itertuples():
            method = labels[row.method, row.method_config]
            rows.append([f"{row.model} {row.site}", f"{row.model_b} {row.site_b}", method, row.value, row.null])
        yield f"\n{labels[metric, config]}", ["a", "b", "method", "value", "null"], rows


def _interval_texts(place: pd.DataFrame) -> list[str | None]:
    bounds = zip(place["explained_variance_low"], place["explained_variance_high"], strict=True)
    return [None if pd.isna(low) else f"{low:.4f}–{high:.4f}" for low, high in bounds]
