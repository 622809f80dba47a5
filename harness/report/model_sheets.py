"""How alike whole models are, as maps and as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from markupsafe import Markup

from harness.report import plots
from harness.report.sheets import Column, Labels, Sheet, number, text
from harness.tables.task_board import JUDGED
from harness.wording import visible

_SCORES = {
    "union": "all sites together",
    "best_layer": "each site with the best of the other model",
    "same_depth": "each site with that of equal depth",
}


def model_sheets(board: pd.DataFrame, labels: Labels) -> Iterator[dict[str, Any]]:
    """Of each similarity, and of each method where it compares decompositions, a map for each score and the numbers."""
    board = board.fillna({"method": "", "method_config": ""})
    budgets = board.loc[board["method"] != "", "fit_tokens"].nunique()
    for key, lines in board.groupby(JUDGED, sort=False, dropna=False):
        similarity, config, method, method_config, tokens = key
        title = labels[similarity, config]
        if method:
            title += f" of {labels[method, method_config]}" + (f", {tokens:,} tokens" if budgets > 1 else "")
        if not lines["higher_is_better"].all():
            title += " (a distance)"
        yield {"title": title, "maps": list(_maps(lines, title)), "sheet": _sheet(lines, f"Models by {title}")}


def _maps(lines: pd.DataFrame, title: str) -> Iterator[tuple[str, Markup]]:
    for score, of_score in lines.groupby("score", sort=False):
        caption = f"{str(score).replace('_', ' ')}: {_SCORES[str(score)]}"
        named = of_score.assign(**{side: [visible(name) for name in of_score[side]] for side in ("model", "model_b")})
        described = f"{title}, {caption}, and its null. The numbers are in the table below."
        figure = plots.model_map(named, str(score).replace("_", " "))
        yield caption, Markup(plots.svg(figure, f"{title}, {score}", described))  # noqa: S704  # escaped in svg()


def _sheet(lines: pd.DataFrame, caption: str) -> Sheet:
    """A row for each two models, a column for each score and for its null."""
    scores = list(dict.fromkeys(lines["score"]))
    columns = [Column("a", is_number=False), Column("b", is_number=False)]
    for score in scores:
        columns += [Column(str(score).replace("_", " "), _SCORES[str(score)]), Column("null", "the same of the nulls")]
    has_reasons = bool(lines["error"].notna().any())
    columns += [Column("why a value is missing", is_number=False)] * has_reasons
    rows = []
    for (a, b), pair in lines.groupby(["model", "model_b"], sort=False):
        by_score = pair.set_index("score")
        numbers = [
            number(by_score[column].get(score), "{:.4f}".format) for score in scores for column in ("value", "null")
        ]
        reasons = text("; ".join(dict.fromkeys(pair["error"].dropna())))
        rows.append([text(a), text(b), *numbers, *[reasons] * has_reasons])
    return Sheet(caption, columns, rows)
