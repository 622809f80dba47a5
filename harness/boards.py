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
_METHODS = {
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
_SCORES = {
    "scorer": "scorer",
    "metric": "metric",
    "value": "value",
    "interval": "95 %",
    "chance": "chance",
    "random_explanation": "random expl.",
    "floor": "floor",
    "lift": "lift",
    "n_latents": "latents",
    "n_undefined": "undefined",
    "dead_share": "dead",
    "rare_share": "rare",
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
        yield _lines(f"{model} {site} ({ranking(place)})", place, "explained_variance", _METHODS, labels, has_budgets)
    yield from _pairs(results.similarities, labels)
    for (model, site), place in results.interpretability.groupby(_PLACE, sort=False):
        yield _lines(f"latents of {model} {site}", place, None, _SCORES, labels, has_budgets)


def _lines(
    title: str, place: pd.DataFrame, of: str | None, headings: Mapping[str, str], labels: Labels, has_budgets: bool
) -> Drawn:
    """The lines of a place, without columns that hold nothing; intervals are those of the metric `of`."""
    methods = zip(place["method"], place["method_config"], strict=True)
    shown = pd.DataFrame({"method": [labels[method] for method in methods]}, dtype=object)
    if has_budgets:
        shown["fit tokens"] = place["fit_tokens"].tolist()
    texts = {"interval": _interval_texts(place, f"{of}_" if of else "")}
    if "pareto" in place:
        texts["pareto"] = ["yes" if mark else None for mark in place["pareto"].fillna(False)]
    for name, heading in headings.items():
        column = pd.Series(texts.get(name, place.get(name)), dtype=object)
        if column.notna().any():
            shown[heading] = column.where(column.notna(), None).tolist()
    return f"\n{title}", list(shown.columns), shown.to_numpy(object).tolist()


def _pairs(similarities: pd.DataFrame, labels: Labels) -> Iterator[Drawn]:
    for (metric, config), lines in similarities.groupby(["similarity", "similarity_config"], sort=False):
        rows = []
        for row in lines.itertuples():
            method = labels[row.method, row.method_config]
            rows.append([f"{row.model} {row.site}", f"{row.model_b} {row.site_b}", method, row.value, row.null])
        yield f"\n{labels[metric, config]}", ["a", "b", "method", "value", "null"], rows


def _interval_texts(place: pd.DataFrame, prefix: str) -> list[str | None]:
    bounds = zip(place[f"{prefix}low"], place[f"{prefix}high"], strict=True)
    return [None if pd.isna(low) else f"{low:.4f}–{high:.4f}" for low, high in bounds]
