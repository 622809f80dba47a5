"""The tables condensed for reading: methods by model and site at matched L0, and how alike sites are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.planning.plan import Plan
from harness.planning.whole_models import is_whole
from harness.registry.metric import Metric, ends, interval_columns
from harness.tables.costs import CAPTURE_SECONDS, FIT_CPU_SECONDS, FIT_SECONDS, PARAMETERS, TOTAL_SECONDS
from harness.tables.declared import Declared
from harness.tables.intervals import Replicates
from harness.tables.matching import boards, rivals
from harness.tables.stats import MIN_DOCUMENTS, Measured, interval, pareto, replicates, tiers
from harness.tables.tidy import TABLES, RowsWithSums

_PLACE = ["family", "model", "site"]
CALIBRATED = ("p_value", "calibrated")
"""Metrics of a similarity beside random pairings of its rows, which are also the names of columns."""
_LINE = ["fit_tokens", "method", "method_config"]
Sums = Mapping[tuple[tuple[Any, ...], str], Measured]
"""Sums by document for each line (place and method) and metric."""


def leaderboard(plan: Plan, tables: Mapping[str, pd.DataFrame], with_sums: RowsWithSums) -> pd.DataFrame:
    """One line per model, site, fit budget and method; means over seeds.

    Where there are several seeds, `tier` ranks a line by quality among those of its budget whose sparsity (the L0 that
    they came to) is within 10 % of its own: those that are within 10 % of each other share the number `matched_l0`, and
    so do all that such lines link. `pareto`: no other line at the place is sparser and better.
    """
    declared = Declared.of(plan.suite)
    lines = _lines(tables, declared).assign(seeds_vary=plan.suite.config.seeds_vary)
    sums = _document_sums(plan, with_sums, declared)
    places = [_ranked(place.reset_index(drop=True), sums, declared) for _, place in lines.groupby(_PLACE, sort=False)]
    return pd.concat(places, ignore_index=True) if places else lines


def similarities(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One line per metric and pair, with its null (shuffled rows, or the value expected by chance).

    Where the suite asks for random pairings, also the p-value and the calibrated score.

    `side` and `side_b` name what is compared: sites, with their seeds where a site is compared with itself.
    """
    table = tables["similarity"]
    of_sites = ~is_whole(table["site"])  # `model_similarities` has the others
    shown = ["similarity", "null_shuffled_rows", "chance", *CALIBRATED]
    table = table[table["metric"].isin(shown) & of_sites].copy()
    table["metric"] = table["metric"].replace({"null_shuffled_rows": "null", "chance": "null"})
    numbers = ["seed", "seed_b", "fit_tokens"]
    keys = ["similarity", "similarity_config", "model", "site", "model_b", "site_b", *_LINE, "seed", "seed_b"]
    table[numbers] = table[numbers].astype("string")
    filled = table.fillna(dict.fromkeys(keys, ""))
    wide = filled.pivot_table(index=keys, columns="metric", values="value", aggfunc="first", sort=False)
    known = wide.reindex(columns=["similarity", "null", *CALIBRATED]).dropna(how="all")
    pairs = known.rename(columns={"similarity": "value"}).reset_index()
    is_one_site = (pairs["model"] == pairs["model_b"]) & (pairs["site"] == pairs["site_b"])
    with_itself = is_one_site & (pairs["seed"] == pairs["seed_b"])  # which only tasks ask for
    pairs, is_one_site = pairs[~with_itself].reset_index(drop=True), is_one_site[~with_itself].reset_index(drop=True)
    for b in ("", "_b"):
        pairs[f"side{b}"] = pairs[f"site{b}"] + (", seed " + pairs[f"seed{b}"]).where(is_one_site, "")
    return pairs


def evaluations(tables: Mapping[str, pd.DataFrame], declared: Declared) -> dict[str, pd.DataFrame]:
    """A board for each evaluation with a table of its own: the metrics that the leaderboard leaves out, a column each.

    One line per model, site, fit budget and method; means over seeds. Ends of intervals, `x_low` and `x_high`, are left
    out where there are several seeds: their mean would be no interval.
    """
    boards = {}
    for name, table in tables.items():
        elsewhere = [metric for metric in declared.columns if declared.is_on_leaderboard(name, metric)]
        own = table[table["metric"].notna() & table["method"].notna() & ~table["metric"].isin(elsewhere)]
        if name in (*TABLES, "tasks", "circuits") or own.empty:
            continue
        metrics = list(dict.fromkeys(own["metric"]))
        board = _means(own, metrics)
        if board["seeds"].max() > 1:
            board = board.drop(columns=[end for metric in metrics for end in ends(metric) if end in metrics])
        boards[name] = board
    return boards


def metrics_of(board: pd.DataFrame) -> list[str]:
    """The columns of `evaluations` that are metrics, without the ends of their intervals."""
    metrics = [str(name) for name in board if name not in (*_PLACE, *_LINE, "seeds", "method_label")]
    bounds = {end for metric in metrics for end in ends(metric)}
    return [metric for metric in metrics if metric not in bounds]


def _lines(tables: Mapping[str, pd.DataFrame], declared: Declared) -> pd.DataFrame:
    costs = [metric.name for metric in (FIT_SECONDS, FIT_CPU_SECONDS, PARAMETERS)]
    wanted = [(evaluation, name) for name, (evaluation, _) in declared.columns.items()]
    wanted += [("cost", name) for name in costs]
    known = [(tables[table], name) for table, name in wanted if table in tables]
    measured = pd.concat([table[(table["metric"] == name) & table["method"].notna()] for table, name in known])
    wide = _means(measured, [*declared.columns, *costs])
    captured = tables["cost"].query("metric == @CAPTURE_SECONDS.name and split == 'fit'")
    of_draws = captured.groupby([*_PLACE, "fit_tokens"])["value"]
    seconds = of_draws.agg(lambda values: values.mean(skipna=False)).rename(CAPTURE_SECONDS.name)
    wide = wide.join(seconds, on=[*_PLACE, "fit_tokens"])
    wide[TOTAL_SECONDS.name] = wide[CAPTURE_SECONDS.name] + wide[FIT_SECONDS.name]
    return wide


def _means(measured: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """A line per place, budget and method; every metric's mean over seeds, null where it is null in one of them."""
    keys = [*_PLACE, *_LINE]
    seeds = measured.groupby(keys, sort=False)["seed"].nunique().rename("seeds")
    means = measured.groupby([*keys, "metric"], sort=False)["value"].agg(lambda values: values.mean(skipna=False))
    return means.unstack("metric").reindex(columns=metrics).join(seeds).reset_index()


def _ranked(place: pd.DataFrame, sums: Sums, declared: Declared) -> pd.DataFrame:
    """The lines of one place with intervals, tiers and Pareto marks.

    Small budgets come first, in each of them sparse boards, and in each of these the best line.
    """
    keys = list(place[[*_PLACE, *_LINE]].itertuples(index=False, name=None))
    drawn: dict[str, list[Replicates | None]] = {}
    for metric in declared.compared:
        # A mean that is null because one seed has no value gets no interval from the others.
        has_mean = place[metric.name].notna()
        known = [sums.get((key, metric.name)) if has_mean[i] else None for i, key in enumerate(keys)]
        drawn[metric.name] = _replicates(known, metric.bounds)
        found = [
            (None, None, None) if values is None or of is None else (*interval(values), of.n_documents)
            for values, of in zip(drawn[metric.name], known, strict=True)
        ]
        columns = list(interval_columns(metric.name))
        place[columns] = np.array(found, dtype=float).reshape(-1, 3)
        place[columns[-1]] = place[columns[-1]].astype("Int64")
    place["matched_l0"], place["tier"] = np.nan, np.nan
    place["pareto"] = pd.array([pd.NA] * len(place), dtype="boolean")  # some versions refuse truth values in another
    if declared.ranked and declared.sparsity:
        _rank(place, declared.sparsity.name, declared.ranked, drawn[declared.ranked.name])
        falls = bool(declared.ranked.higher_is_better)
        place = place.sort_values(["matched_l0", declared.ranked.name], ascending=[True, not falls], kind="stable")
    return place.astype({"tier": "Int64", "matched_l0": "Int64"})


def _rank(place: pd.DataFrame, sparsity: str, ranked: Metric, drawn: list[Replicates | None]) -> None:
    """Fill in `matched_l0`, the number of the board, `tier`, the rank among lines that match, and `pareto`."""
    sign = 1 if ranked.higher_is_better else -1
    known = place.index[place[[ranked.name, sparsity]].notna().all(axis=1)]
    costs, values = place.loc[known, sparsity].tolist(), sign * place[ranked.name]
    place.loc[known, "matched_l0"] = boards(costs, place.loc[known, "fit_tokens"].tolist())
    place.loc[known, "pareto"] = pareto(costs, values[known].tolist())
    compared = [i for i in known if drawn[i] is not None]
    own = place.loc[compared]
    matching = rivals(own[sparsity].tolist(), own["fit_tokens"].tolist())
    found = tiers(values[compared].tolist(), [drawn[i] for i in compared], matching)
    has_rivals = [len(lines) > 1 for lines in matching]
    place.loc[compared, "tier"] = np.where(has_rivals, np.array(found, dtype=float), np.nan)


def _replicates(methods: list[Measured | None], bounds: tuple[float, float]) -> list[Replicates | None]:
    """The value and errors of each method that has sums by document; None for the others."""
    known = [method for method in methods if method is not None]
    drawn = iter(replicates(known, bounds))
    return [None if method is None else next(drawn) for method in methods]


def _document_sums(plan: Plan, with_sums: RowsWithSums, declared: Declared) -> Sums:
    """Sums by document from the records of all evaluations, seeds together."""
    found: dict[tuple[tuple[Any, ...], str], list[Mapping[str, list[float]]]] = defaultdict(list)
    compared = {(declared.columns[metric.name][0], metric.name) for metric in declared.compared}
    for cell in plan.of_kind("evaluation"):
        key = tuple(cell.columns[name] for name in (*_PLACE, *_LINE))
        for row in with_sums.get(cell.key, ()):
            if row.get("documents") and (row["table"], row["metric"]) in compared:
                found[key, row["metric"]].append(row["documents"])
    return {
        key: Measured(*(np.array([sums[side] for sums in seeds]) for side in ("numerator", "denominator")))
        for key, seeds in found.items()
    }


def ranking(place: pd.DataFrame, declared: Declared) -> str:
    """A note for people that says how methods are ranked at a place, or why they are not."""
    if not declared.ranked or not declared.sparsity:
        return "no evaluation measures both quality and sparsity: no ranking"
    if place["tier"].notna().any():
        n = place[interval_columns(declared.ranked.name)[-1]].max()
        has_draws = bool((place["seeds_vary"] == "documents").any())
        over = f"{n} documents and seeds" + (", each with training documents of its own" if has_draws else "")
        return f"tiers among methods of equal {declared.sparsity.heading}; 95 % intervals over {over}"
    if place["seeds"].max() < 2:
        return "one seed: no intervals, no ranking"
    if place[ends(declared.ranked.name)[0]].isna().all():
        return f"fewer than {MIN_DOCUMENTS} evaluation documents: no intervals, no ranking"
    return f"no two methods of equal {declared.sparsity.heading}: no ranking"
