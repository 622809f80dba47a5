"""The boards of a suite as tables for the terminal, as wide as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from harness import wording
from harness.cli import display
from harness.planning.keys import canonical_json
from harness.planning.suite import Suite, Tokens
from harness.registry.metric import ROLES, Metric
from harness.tables.declared import Declared
from harness.tables.interpretability import FIT, SCORER, shares
from harness.tables.leaderboard import ends, ranking
from harness.tables.model_similarities import SCORES
from harness.tables.results import Results
from harness.tables.task_board import JUDGED

_PLACE = ["model", "site"]
_METHOD = "method"
_INTERVAL = "95\N{NO-BREAK SPACE}%"
_SHARES = {"dead_share": "dead", "rare_share": "rare"}
_GAP = 2
_MAX_NOTES = 5

Labels: TypeAlias = Mapping[Any, str]
"""By name and config, as the tables have them."""


@dataclass(frozen=True)
class Board:
    """A table and what is said below it."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    spare: tuple[str, ...] = ()
    """Columns that can be left out, the least important first."""
    notes: tuple[str, ...] = ()


def of_suite(results: Results, suite: Suite) -> Iterator[Board]:
    """Methods by model and site, evaluations, similarities by metric, latents and their scores by model and site."""
    entries = (*suite.methods, *suite.similarities, *suite.scorers, *suite.tasks)
    labels = {(entry.name, canonical_json(dict(entry.params))): entry.label for entry in entries} | {("", ""): ""}
    has_budgets = len(suite.config.tokens.fit_budgets) > 1
    # Where only similarities are judged, methods are there for their dictionaries.
    methods = results.leaderboard if suite.evaluations or not suite.tasks else results.leaderboard.iloc[:0]
    for (model, site), place in methods.groupby(_PLACE, sort=False):
        yield _leaderboard(f"{model} {site}", place, results.declared, labels, has_budgets)
    yield from _evaluations(results, labels, has_budgets)
    if suite.tasks:
        yield from _tasks(results, labels, suite.config.tokens)
    else:
        yield from _pairs(results.similarities, labels)
        yield from _models(results.model_similarities, labels)
    interp = results.tables["interp"]
    of_fits = shares(interp)
    for (model, site), fits in of_fits.groupby(_PLACE, sort=False):
        scores = results.interpretability.merge(fits[FIT], on=FIT)
        yield _latents(f"latents of {model} {site}", fits, scores, interp.merge(fits[FIT], on=FIT), labels, has_budgets)


def _leaderboard(title: str, place: pd.DataFrame, declared: Declared, labels: Labels, has_budgets: bool) -> Board:
    """Methods at one place; a narrow terminal can do without the metrics that rank least."""
    shown = _methods(place, labels, has_budgets)
    columns: dict[str, Any] = {"tier": place["tier"]}
    for metric in declared.shown:
        columns[metric.heading] = place[metric.name]
        if metric == declared.ranked:
            columns[_INTERVAL] = _interval_texts(place, metric)
    columns["Pareto"] = ["yes" if mark else None for mark in place["pareto"].fillna(False)]
    for heading, values in columns.items():
        if pd.Series(values, dtype=object).notna().any():
            shown[heading] = list(values)
    by_role = {role: [metric.heading for metric in declared.shown if metric.role == role] for role in ROLES}
    spare = (*reversed(by_role["listed"]), *by_role["compared"], "Pareto", _INTERVAL, *by_role["cost"])
    return _board(f"{title} ({ranking(place, declared)})", shown, (*spare, *by_role["effect"], "tier"))


def draw(board: Board, width: int) -> Iterator[RenderableType]:
    """What fits, with no number and no name broken.

    Where all on one line is too wide, headings and names take several; then columns are left out.
    """
    left_out: list[str] = []
    if _width(board) > width:
        spare = iter(board.spare)
        while _width(_narrow(board)) > width and (heading := next(spare, None)):
            if heading in board.columns:
                left_out.append(heading)
                board = _without(board, heading)
        board = _narrow(board)
    unbroken = [column for column in board.columns if column != _METHOD]
    yield display.table(board.title, board.columns, board.rows, unbroken)
    for note in board.notes:
        yield Text(wording.visible(note), style="dim")
    if left_out:
        names = ", ".join(map(wording.visible, left_out))
        yield Text(f"left out, for want of width: {names}; --json and the CSV files have all", style="dim")


def _narrow(board: Board) -> Board:
    """A word to a line, but for what no-break spaces hold; a method's parameters below its name may wrap at commas."""
    places = [column == _METHOD for column in board.columns]

    def broken(value: Any, is_method: bool) -> Any:
        if not isinstance(value, str):
            return value
        return value.replace("(", "\n(", 1) if is_method else value.replace(" ", "\n")

    rows = [[broken(value, is_method) for value, is_method in zip(row, places, strict=True)] for row in board.rows]
    return replace(board, columns=[broken(column, False) for column in board.columns], rows=rows)


def _width(board: Board) -> int:
    """The least that it takes: a method's words stay whole, of all else the lines."""
    widths = []
    for i, column in enumerate(board.columns):
        texts = [column, *(wording.short(row[i]) for row in board.rows)]
        is_wrapped = column == _METHOD and any("\n" in text for text in texts)
        parts = [part for text in texts for part in (text.split() if is_wrapped else text.split("\n"))]
        widths.append(max(map(cell_len, parts)))
    return sum(widths) + _GAP * (len(widths) - 1)


def _without(board: Board, heading: str) -> Board:
    place = board.columns.index(heading)
    rows = [row[:place] + row[place + 1 :] for row in board.rows]
    return replace(board, columns=[column for column in board.columns if column != heading], rows=rows)


def _methods(place: pd.DataFrame, labels: Labels, has_budgets: bool) -> pd.DataFrame:
    """The columns that say what a line is about."""
    methods = zip(place["method"], place["method_config"], strict=True)
    shown = pd.DataFrame({_METHOD: [labels[method] for method in methods]}, dtype=object)
    if has_budgets:
        shown["fit tokens"] = place["fit_tokens"].tolist()
    return shown


def _board(title: str, shown: pd.DataFrame, spare: tuple[str, ...], notes: tuple[str, ...] = ()) -> Board:
    values = shown.astype(object).where(shown.notna(), None)
    return Board(f"\n{title}", list(shown.columns), values.to_numpy(object).tolist(), spare, notes)


def _latents(
    title: str, fits: pd.DataFrame, scores: pd.DataFrame, interp: pd.DataFrame, labels: Labels, has_budgets: bool
) -> Board:
    """A line per method and a column per scorer; intervals and controls are the report's to show."""
    shown = _methods(fits, labels, has_budgets)
    lines = pd.MultiIndex.from_frame(fits[FIT])
    missing = interp[interp["value"].isna() & interp["error"].notna()]
    notes: dict[str, None] = {}
    for key, of_scorer in scores.fillna({"judge": "", "explainer": ""}).groupby([*SCORER, "metric"], sort=False):
        scorer, config, judge, explainer, metric = map(str, key)
        by = f" by {judge}" if judge else ""
        if scores["explainer"].nunique() > 1 and explainer:
            by += f", explained by {explainer}"
        name = f"{labels[scorer, config]} {metric}".replace("_", " ") + by
        values = of_scorer.set_index(FIT)["value"].reindex(lines)
        chance = of_scorer["chance"].iloc[0]
        shown[name if pd.isna(chance) else f"{name} (chance\N{NO-BREAK SPACE}{chance:g})"] = values.to_list()
        why = missing[(missing["scorer"] == scorer) & (missing["scorer_config"] == config)]
        why = why[why["explainer"].fillna("") == explainer]
        why = why.merge(values.index[values.isna()].to_frame(index=False), on=FIT)
        notes |= dict.fromkeys(f"{name}: {reason}" for reason in why["error"])
    for share, heading in _SHARES.items():
        shown[heading] = fits[share].to_list()
    why = missing[missing["scorer"].isna() & missing["metric"].isin(_SHARES)]
    shares_why = zip(why["metric"], why["error"], strict=True)
    notes |= dict.fromkeys(f"{_SHARES[metric]}: {reason}" for metric, reason in shares_why)
    told = [f"undefined: {note}" for note in notes]
    rest = [f"undefined: {len(told) - _MAX_NOTES} more reasons, in tables/interp.csv"] if len(told) > _MAX_NOTES else []
    spare = (*reversed(_SHARES.values()), *reversed(shown.columns[1:]))
    return _board(title, shown, spare, (*told[:_MAX_NOTES], *rest))


def _evaluations(results: Results, labels: Labels, has_budgets: bool) -> Iterator[Board]:
    """What evaluations found besides what the leaderboard has, the last metrics being spare."""
    for name, board in results.evaluations.items():
        for (model, site), place in board.groupby(_PLACE, sort=False):
            metrics = [metric for metric in results.metrics_of(name) if place[metric.name].notna().any()]
            if not metrics:  # the reasons are told with all that is undefined
                continue
            shown = _methods(place, labels, has_budgets)
            shown[[metric.heading for metric in metrics]] = place[[metric.name for metric in metrics]].to_numpy()
            yield _board(f"{name} of {model} {site}", shown, tuple(reversed(shown.columns[1:])))


def _tasks(results: Results, labels: Labels, tokens: Tokens) -> Iterator[Board]:
    """Of each task and family the similarities by its main metric, the other metrics being spare; then their ranks."""
    for (task, config, family), lines in results.task_scores.groupby(["task", "task_config", "family"], sort=False):
        lines = lines.fillna({"method": "", "method_config": ""})
        main = lines[lines["is_main"].astype(bool)]
        best_first = main["value"].where(~main["higher_is_better"].astype(bool), -main["value"])
        main = main.assign(order=best_first).sort_values(["tier", "order"], kind="stable")
        shown = _judged(main, labels)
        subjects = pd.MultiIndex.from_frame(main[JUDGED])
        wide = lines.pivot_table(index=JUDGED, columns="metric", values="value", dropna=False, sort=False)
        others = [metric for metric in dict.fromkeys(lines["metric"]) if metric not in set(main["metric"])]
        columns: dict[str, list[Any]] = {
            "tier": main["tier"].tolist(),
            str(main["metric"].iloc[0]): main["value"].tolist(),
            "95\N{NO-BREAK SPACE}%": _ends(main),
            "less\N{NO-BREAK SPACE}control": main["difference_to_control"].tolist(),
            **{metric: wide[metric].reindex(subjects).tolist() for metric in others},
        }
        for heading, values in columns.items():
            if pd.Series(values, dtype=object).notna().any():
                shown[heading.replace("_", " ")] = values
        yield _board(f"{labels[task, config]}: {family}", shown, tuple(reversed(shown.columns[2:])))
    ranked = results.similarity_ranks.fillna({"method": "", "method_config": ""})
    if len(ranked):
        shown = _judged(ranked, labels)
        costs = {"mean rank": "mean_rank", "seconds": "compare_seconds", "bytes": "compare_memory_bytes"}
        shown[list(costs)] = ranked[list(costs.values())].to_numpy()
        title = "similarities by their mean rank over all tasks"
        yield _board(title, shown, ("bytes", "seconds"), (_budgets(tokens),))


def _budgets(tokens: Tokens) -> str:
    fit = " or ".join(f"{budget:,}" for budget in tokens.fit_budgets)
    return f"budgets: {tokens.evaluation:,} rows of each site compared; dictionaries learnt from {fit}"


def _judged(lines: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """The columns that say which similarity a line is about."""
    named = [labels[key] for key in zip(lines["similarity"], lines["similarity_config"], strict=True)]
    shown = pd.DataFrame({"similarity": named}, dtype=object)
    if (lines["method"] != "").any():
        shown[_METHOD] = [labels[key] for key in zip(lines["method"], lines["method_config"], strict=True)]
        if lines["fit_tokens"].nunique() > 1:
            shown["fit tokens"] = lines["fit_tokens"].tolist()
    return shown


def _ends(lines: pd.DataFrame) -> list[str | None]:
    bounds = zip(lines["low"], lines["high"], strict=True)
    return [None if pd.isna(low) else f"{low:.3f}\N{NO-BREAK SPACE}to {high:.3f}" for low, high in bounds]


def _pairs(similarities: pd.DataFrame, labels: Labels) -> Iterator[Board]:
    for (metric, config), lines in similarities.groupby(["similarity", "similarity_config"], sort=False):
        sides = {"a": lines["model"] + " " + lines["side"], "b": lines["model_b"] + " " + lines["side_b"]}
        shown = pd.DataFrame(sides)
        if (lines["method"] != "").any():  # representations are of no method
            shown[_METHOD] = [labels[method] for method in zip(lines["method"], lines["method_config"], strict=True)]
            if lines["fit_tokens"].nunique() > 1:
                shown["fit tokens"] = [int(tokens) for tokens in lines["fit_tokens"]]
        yield _board(labels[metric, config], shown.assign(value=lines["value"], null=lines["null"]), ("null",))


def _models(board: pd.DataFrame, labels: Labels) -> Iterator[Board]:
    """A line for each two models, a column for each score, the nulls being spare."""
    for (metric, config), lines in board.groupby(["similarity", "similarity_config"], sort=False):
        lines = lines.fillna({"method": "", "method_config": ""})
        keys = [*JUDGED[2:], "model", "model_b"]
        pairs = lines[keys].drop_duplicates().reset_index(drop=True)
        shown = pd.DataFrame({"a": pairs["model"], "b": pairs["model_b"]})
        if (pairs["method"] != "").any():
            shown[_METHOD] = [labels[method] for method in zip(pairs["method"], pairs["method_config"], strict=True)]
            if pairs["fit_tokens"].nunique() > 1:
                shown["fit tokens"] = pairs["fit_tokens"].tolist()
        spare = []
        for score in (score for score in SCORES if (lines["score"] == score).any()):
            name = score.replace("_", " ")
            of_score = pairs.merge(lines[lines["score"] == score], on=keys, how="left")
            shown[name], shown[f"{name} null"] = of_score["value"], of_score["null"]
            spare.append(f"{name} null")
        notes = [f"undefined: {reason}" for reason in dict.fromkeys(lines["error"].dropna())]
        yield _board(f"models by {labels[metric, config]}", shown, tuple(spare), tuple(notes[:_MAX_NOTES]))


def _interval_texts(place: pd.DataFrame, metric: Metric) -> list[str | None]:
    bounds = zip(*(place[end] for end in ends(metric.name)), strict=True)
    return [
        None if pd.isna(low) else f"{metric.write(low)}\N{NO-BREAK SPACE}to {metric.write(high)}"
        for low, high in bounds
    ]
