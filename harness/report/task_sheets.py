"""What tasks found of similarities, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from harness import wording
from harness.report.sheets import Column, Labels, Sheet, Value, label, measured, number, text
from harness.tables.results import Results
from harness.tables.task_board import JUDGED

_RANKS = (
    ("mean_rank", "mean rank", "over the main metrics of all tasks, untrained controls apart; 1 is best", "{:.2f}"),
    ("compare_seconds", "seconds", "of one comparison of rows; where it learns from them, with learning", "{:.3g}"),
)


def task_sheets(results: Results, labels: Labels) -> Iterator[Sheet]:
    """Ranks over all tasks first, then each task on each family."""
    absent = {"method": "", "method_config": ""}
    if len(results.similarity_ranks):
        yield _ranks(results.similarity_ranks.fillna(absent), labels)
    scores = results.task_scores.fillna(absent)
    for (task, config, family), lines in scores.groupby(["task", "task_config", "family"], sort=False):
        yield _scores(lines, labels, f"{labels[task, config]}: {family}")


def _ranks(lines: pd.DataFrame, labels: Labels) -> Sheet:
    columns = [*_heads(lines), *(Column(heading, meaning) for _, heading, meaning, _ in _RANKS)]
    columns.append(Column("memory", "the most that one comparison took above what was held before"))
    rows = [
        [
            *_judged(line, lines, labels),
            *(number(line[name], form.format) for name, _, _, form in _RANKS),
            number(line["compare_memory_bytes"], lambda n_bytes: wording.size(int(n_bytes))),
        ]
        for line in lines.to_dict("records")
    ]
    return Sheet("Similarities by their mean rank", columns, rows)


def _scores(lines: pd.DataFrame, labels: Labels, caption: str) -> Sheet:
    """A row for each similarity, a column for each metric, the main one with tier, interval and control."""
    is_main = lines["is_main"].astype(bool)
    metrics = list(dict.fromkeys([*lines.loc[is_main, "metric"], *lines["metric"]]))
    columns = [*_heads(lines), Column("tier", "similarities that can't be told apart by the first metric share one")]
    columns += [Column(metric.replace("_", " ")) for metric in metrics]
    columns.append(Column("less control", "the first metric less its value on the family's untrained control"))
    rows = []
    for _, own in lines.groupby(JUDGED, sort=False, dropna=False):
        by_metric = {line["metric"]: line for line in own.to_dict("records")}
        first = by_metric[metrics[0]]
        rows.append(
            [
                *_judged(first, lines, labels),
                number(first["tier"], "{:.0f}".format),
                *(measured(by_metric[metric], "value", "{:.3g}".format) for metric in metrics),
                measured(first, "difference_to_control", "{:+.3g}".format),
            ]
        )
    return Sheet(caption, columns, rows)


def _heads(lines: pd.DataFrame) -> list[Column]:
    heads = [Column("similarity", is_number=False)]
    if (lines["method"] != "").any():
        heads.append(Column("of", "the method whose decompositions it compares", is_number=False))
    return [*heads, Column("fit tokens")] if lines["fit_tokens"].nunique() > 1 else heads


def _judged(line: dict[Any, Any], lines: pd.DataFrame, labels: Labels) -> list[Value]:
    values = [label(labels[line["similarity"], line["similarity_config"]])]
    if (lines["method"] != "").any():
        method = line["method"], line["method_config"]
        values.append(label(labels[method]) if line["method"] else text(""))
    return [*values, number(line["fit_tokens"], "{:,.0f}".format)] if lines["fit_tokens"].nunique() > 1 else values
