"""Similarities of sites and of models, and their scores in tasks, for people."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness import wording
from harness.planning.suite import Tokens
from harness.tables.task_board import CONTENDER
from harness.views.view import (
    REST,
    TIER,
    Column,
    Field,
    Item,
    Line,
    View,
    compared,
    contender_fields,
    known,
    number,
    view,
    words,
)

MODEL_SCORES = {
    "union": "all sites together",
    "best_layer": "each site with the best of the other model",
    "same_depth": "each site with that of equal depth",
}
_P_VALUE = "share of random pairings of rows, itself counted, that are at least as much alike"
_CALIBRATED = "0 up to where 95 % of random pairings are, 1 for the most alike there can be"
_BYTES = "the most that one comparison took above what was held before"
_SECONDS = "of one comparison of rows; where it learns from them, with learning"
_RANK = "over the main metrics of all tasks, untrained controls apart; 1 is best"


def subject_of(line: Line, with_budget: bool) -> str:
    """The similarity that a line is about, and the method if it compares decompositions."""
    title = str(line["similarity_label"])
    if known(line["method_label"]) is None:
        return title
    return f"{title} of {line['method_label']}" + (f", {int(line['fit_tokens']):,} tokens" if with_budget else "")


def pairs_view(title: str, lines: pd.DataFrame) -> View:
    """A table of one similarity for all pairs of sites, or for the seeds of each site."""
    fields = [
        Field(Column("a"), lambda line: Item(f"{line['model']} {line['side']}")),
        Field(Column("b"), lambda line: Item(f"{line['model_b']} {line['side_b']}")),
        *compared(lines),
    ]
    if lines["seed"].map(known).notna().any():
        fields.append(Field(Column("seed", spare=TIER), _seeds))
    fields.append(number("value", "value", "", "{:.4f}".format))
    fields.append(
        number("null", "null", "of shuffled rows, or the value that chance gives", "{:.4f}".format, spare=REST)
    )
    if lines["p_value"].notna().any():
        fields.append(number("p_value", "p", _P_VALUE, "{:.3g}".format))
        fields.append(number("calibrated", "calibrated", _CALIBRATED, "{:.4f}".format))
    return view(title, fields, lines.to_dict("records"))


def _seeds(line: Line) -> Item:
    seeds = dict.fromkeys(str(line[seed]) for seed in ("seed", "seed_b") if known(line[seed]) is not None)
    return Item(" and ".join(seeds) or None)


def models_view(title: str, lines: pd.DataFrame) -> View:
    """A table with a row for each two models, and columns for each score and its null."""
    fields = [words("model", "a"), words("model_b", "b"), *compared(lines)]
    for i, score in enumerate(dict.fromkeys(lines["score"])):
        heading = str(score).replace("_", " ")
        fields.append(number(f"{score} value", heading, MODEL_SCORES[str(score)], "{:.4f}".format))
        fields.append(number(f"{score} null", f"{heading} null", "of nulls", "{:.4f}".format, spare=REST + i))
        if lines.loc[lines["score"] == score, "p_value"].notna().any():
            fields.append(number(f"{score} p_value", f"{heading} p", _P_VALUE, "{:.3g}".format))
            fields.append(number(f"{score} calibrated", f"{heading} calibrated", _CALIBRATED, "{:.4f}".format))
    if lines["error"].notna().any():
        fields.append(Field(Column("why a value is missing", is_reason=True), lambda line: Item(line["why"])))
    return view(title, fields, _by_pair(lines))


def _by_pair(lines: pd.DataFrame) -> Iterator[Line]:
    """The scores of two models as one line."""
    keys = [*CONTENDER[2:], "model", "model_b"]
    for _, pair in lines.groupby(keys, sort=False, dropna=False):
        scores = pair.to_dict("records")
        columns = ("value", "null", "p_value", "calibrated")
        found = {f"{line['score']} {column}": line[column] for line in scores for column in columns}
        why = "; ".join(dict.fromkeys(pair["error"].dropna()))
        yield {**scores[0], **found, "why": why or None}


def task_views(scores: pd.DataFrame) -> Iterator[View]:
    """A table for each task and family: a row for each similarity, with tier and control of the main metric."""
    for (_, _, family), lines in scores.groupby(["task", "task_config", "family"], sort=False):
        is_main = lines["is_main"].astype(bool)
        main, *others = dict.fromkeys([*lines.loc[is_main, "metric"], *lines["metric"]])
        meaning = "similarities that can't be told apart by the first metric share one"
        fields = [*contender_fields(lines), number("tier", "tier", meaning, "{:.0f}".format, spare=TIER)]
        fields.append(_score(main, is_main=True))
        fields += [_score(metric, spare=REST + i) for i, metric in enumerate(others)]
        if lines["difference_to_control"].notna().any():
            meaning = "the first metric less its value on the family's untrained control"
            fields.append(number("difference_to_control", "less control", meaning, "{:+.3g}".format, spare=REST - 1))
        rows = (_by_metric(own, main) for _, own in lines.groupby(CONTENDER, sort=False, dropna=False))
        yield view(f"{lines['task_label'].iloc[0]}: {family}", fields, rows)


def _score(metric: str, **more: int) -> Field:
    return number(f"{metric} score", metric.replace("_", " "), "", "{:.3g}".format, **more)


def _by_metric(lines: pd.DataFrame, main: str) -> Line:
    """The scores of one similarity as one line."""
    scores = {line["metric"]: line for line in lines.to_dict("records")}
    ends = {"value": "", "low": "_low", "high": "_high"}
    return {
        **scores[main],
        **{f"{metric} score{end}": line[name] for metric, line in scores.items() for name, end in ends.items()},
    }


def ranks_view(ranks: pd.DataFrame, tokens: Tokens) -> View:
    """Similarities by their mean rank over all tasks, and what one comparison costs."""
    fields = [
        *contender_fields(ranks),
        number("mean_rank", "mean rank", _RANK, "{:.2f}".format),
        number("compare_seconds", "seconds", _SECONDS, "{:.3g}".format, spare=TIER),
        number("compare_memory_bytes", "memory", _BYTES, wording.size, spare=REST),
    ]
    fit = " or ".join(f"{budget:,}" for budget in tokens.fit_budgets)
    note = f"budgets: {tokens.evaluation:,} rows of each site compared; dictionaries learnt from {fit}"
    return view("Similarities by their mean rank over all tasks", fields, ranks.to_dict("records"), [note])
