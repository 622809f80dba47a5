"""The tables condensed for reading: methods by model and site, and how alike sites are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.keys import canonical_json
from harness.suite import Suite

_PLACE = ["family", "model", "site"]
_METHOD = ["method", "method_config"]
_METRICS = ("explained_variance", "cosine_error", "l0", "alive_fraction")
_COSTS = ("fit_seconds", "parameters")
_HEADINGS = ("method", "expl. variance", "1 − cos", "L0", "alive", "fit seconds", "parameters", "seeds")


def leaderboard(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One line per model, site and method, best explained variance first; means over seeds.

    It is no ranking: methods differ in L0, and one seed can't tell luck from merit.
    """
    measured = pd.concat([_of(tables["reconstruction"], _METRICS), _of(tables["cost"], _COSTS)])
    keys = [*_PLACE, *_METHOD]
    seeds = measured.groupby(keys, sort=False)["seed"].nunique().rename("seeds")
    wide = measured.pivot_table(index=keys, columns="metric", values="value", aggfunc="mean", sort=False)
    wide = wide.reindex(columns=[*_METRICS, *_COSTS]).join(seeds).dropna(how="all").reset_index()
    order = {place: i for i, place in enumerate(wide[_PLACE].drop_duplicates().itertuples(index=False, name=None))}
    wide["place"] = [order[place] for place in wide[_PLACE].itertuples(index=False, name=None)]
    ranked = wide.sort_values(["place", "explained_variance"], ascending=[True, False], kind="stable")
    return ranked.drop(columns="place").reset_index(drop=True)


def similarities(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One line per metric and pair, with its null (shuffled rows, or the value expected by chance)."""
    table = tables["similarity"]
    table = table[table["metric"].isin(["similarity", "null_shuffled_rows", "chance"])].copy()
    table["metric"] = table["metric"].replace({"null_shuffled_rows": "null", "chance": "null"})
    keys = ["similarity", "similarity_config", "model", "site", "model_b", "site_b", "method", "method_config", "seed"]
    table["seed"] = table["seed"].astype("string")
    filled = table.fillna(dict.fromkeys(keys, ""))
    wide = filled.pivot_table(index=keys, columns="metric", values="value", aggfunc="first", sort=False)
    return (
        wide.reindex(columns=["similarity", "null"])
        .dropna(how="all")
        .rename(columns={"similarity": "value"})
        .reset_index()
    )


def for_terminal(tables: Mapping[str, pd.DataFrame], suite: Suite) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """(title, columns, rows) of each table."""
    entries = (*suite.methods, *suite.similarities)
    labels: dict[Any, str] = {(entry.name, canonical_json(dict(entry.params))): entry.label for entry in entries} | {
        ("", ""): ""
    }
    board = leaderboard(tables)
    columns = [*_METRICS, *_COSTS, "seeds"]
    for (_, model, site), lines in board.groupby(_PLACE, sort=False):
        cells = lines[[*_METHOD, *columns]].itertuples(index=False, name=None)
        rows = [[labels[method, config], *values] for method, config, *values in cells]
        yield f"\n{model} {site} (no ranking: compare at equal L0, over several seeds)", list(_HEADINGS), rows
    pairs = similarities(tables)
    for (metric, config), lines in pairs.groupby(["similarity", "similarity_config"], sort=False):
        rows = []
        for row in lines.itertuples():
            method = labels[row.method, row.method_config]
            rows.append([f"{row.model} {row.site}", f"{row.model_b} {row.site_b}", method, row.value, row.null])
        yield f"\n{labels[metric, config]}", ["a", "b", "method", "value", "null"], rows


def _of(table: pd.DataFrame, metrics: tuple[str, ...]) -> pd.DataFrame:
    return table[table["metric"].isin(metrics) & table["method"].notna()]
