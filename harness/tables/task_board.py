"""Results of tasks, condensed: every similarity's scores with intervals, tiers and the difference to an untrained
control, and one rank over all tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.tables.intervals import Replicates, contrast
from harness.tables.stats import OfModels, interval, model_replicates, tiers
from harness.tables.tidy import RowsWithSums

CONTENDER = ["similarity", "similarity_config", "method", "method_config", "fit_tokens"]
QUESTION = ["task", "task_config", "family", "metric"]
COMPARE_COSTS = ("compare_seconds", "compare_memory_bytes")

Question: TypeAlias = tuple[Any, ...]
"""A task, its config, a family of models, and a metric."""
Subject: TypeAlias = tuple[Any, ...]
"""A similarity and its config, a method and its config, and fit tokens; the last three are None for representations."""


@dataclass(frozen=True)
class _Answer:
    """One similarity's score, seeds of the fits together."""

    sums: OfModels
    n: int
    higher_is_better: bool
    is_main: bool
    """True for the task's main metric."""
    replicates: Replicates | None


def task_scores(plan: Plan, with_sums: RowsWithSums) -> pd.DataFrame:
    """One line per task, family, metric and similarity.

    `low` and `high` are a 95 % interval over `n_models` models, `tier` ranks similarities that can be told apart by a
    task's main metric on one family, all pairs of similarities being judged together, `difference_to_best` is the value
    less that of the similarity which is best there, on the same models, and `difference_to_control` the value less that
    of the family's untrained control.
    """
    answers = _answers(plan, with_sums)
    # A family has one control at most, which the suite was checked for.
    controls = {model.control_of: model.family for model in plan.suite.models if model.control_of is not None}
    lines = []
    for question, found in answers.items():
        named = dict(zip(QUESTION, question, strict=True))
        mains = {subject: answer for subject, answer in found.items() if answer.is_main}
        ranked, best = _tiers(mains), _best(mains)
        control = answers.get((*question[:2], controls.get(named["family"]), named["metric"]), {})
        for subject, answer in found.items():
            line = {**named, **dict(zip(CONTENDER, subject, strict=True)), "value": answer.sums.value, "n": answer.n}
            line |= {
                "higher_is_better": answer.higher_is_better,
                "is_main": answer.is_main,
                "tier": ranked.get(subject),
            }
            line |= {"n_models": int(answer.sums.has_part.sum()), **_ends("", answer.replicates)}
            if best is not None and answer.is_main:
                line |= _difference("difference_to_best", answer, best)
            if (untrained := control.get(subject)) is not None:
                line |= _difference("difference_to_control", answer, untrained, is_paired=False)
            lines.append(line)
    columns = [*QUESTION, *CONTENDER, "value", "low", "high", "tier"]
    columns += [f"difference_to_{other}{end}" for other in ("best", "control") for end in ("", "_low", "_high")]
    columns += ["n", "n_models", "higher_is_better", "is_main"]
    return pd.DataFrame(lines, columns=columns).astype({"tier": "Int64", "fit_tokens": "Int64"})


def ranks(scores: pd.DataFrame, plan: Plan, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One line per similarity: its mean rank over all tasks' main metrics on all trained families, and what it costs.

    Ties share their mean rank. Only similarities that every task has judged are ranked.
    """
    untrained = [model.family for model in plan.suite.models if model.control_of is not None]
    main = scores[scores["is_main"].astype(bool) & ~scores["family"].isin(untrained)]
    signed = main["value"].where(main["higher_is_better"].astype(bool), -main["value"])
    ranked = main.assign(rank=signed.groupby([main[name] for name in QUESTION]).rank(ascending=False))
    by_subject = ranked.groupby(CONTENDER, sort=False, dropna=False)["rank"].agg(["mean", "size"])
    n_questions = ranked[QUESTION].drop_duplicates().shape[0]
    by_subject = by_subject.rename(columns={"mean": "mean_rank", "size": "n_tasks"})
    by_subject["mean_rank"] = by_subject["mean_rank"].where(by_subject["n_tasks"] == n_questions)
    costs = tables["tasks"] if "tasks" in tables else pd.DataFrame(columns=[*CONTENDER, "metric", "value"])
    for name in COMPARE_COSTS:
        measured = costs[costs["metric"] == name].groupby(["similarity", "similarity_config"])["value"].max()
        by_subject[name] = [measured.get(subject[:2], np.nan) for subject in by_subject.index]
    return by_subject.sort_values("mean_rank", kind="stable").reset_index()


def _answers(plan: Plan, with_sums: RowsWithSums) -> dict[Question, dict[Subject, _Answer]]:
    """All answers, by question and similarity."""
    names = [model.label for model in plan.suite.models]
    found: dict[Question, dict[Subject, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for cell in plan.of_kind("task"):
        for row in with_sums.get(cell.key, ()):
            if row.get("models") and row["value"] is not None:
                question = (cell.columns["task"], cell.columns["task_config"], row["family"], row["metric"])
                for subject in _subjects(cell, plan):
                    found[question][subject].append(row)
    return {
        question: {subject: _answer(rows, names) for subject, rows in own.items()} for question, own in found.items()
    }


def _subjects(cell: Cell, plan: Plan) -> list[Subject]:
    """The subjects that a task cell is about: one, or one for every fit budget if it fits rows of the task's own."""
    similarity, config, method, method_config, fit_tokens = (cell.columns.get(name) for name in CONTENDER)
    budgets = plan.suite.config.tokens.fit_budgets if method and fit_tokens is None else [fit_tokens]
    return [(similarity, config, method, method_config, budget) for budget in budgets]


def _answer(rows: list[dict[str, Any]], names: list[str]) -> _Answer:
    """An answer made from the rows of all seeds, which need not be about the same models.

    Sums are by the suite's models, so that answers of two similarities are paired by model.
    """
    numerator, denominator = np.zeros((2, len(names), len(names)))
    for row in rows:
        places = np.ix_(*[[names.index(name) for name in row["models"]["names"]]] * 2)
        numerator[places] += row["models"]["numerator"]
        denominator[places] += row["models"]["denominator"]
    first, (low, high) = rows[0], rows[0]["bounds"]
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    sums = OfModels(numerator, denominator, bounds)
    return _Answer(sums, first["n"], first["higher_is_better"], first["is_main"], model_replicates(sums))


def _tiers(found: Mapping[Subject, _Answer]) -> dict[Subject, int | None]:
    means = [answer.sums.value if answer.higher_is_better else -answer.sums.value for answer in found.values()]
    return dict(zip(found, tiers(means, [answer.replicates for answer in found.values()]), strict=True))


def _best(found: Mapping[Subject, _Answer]) -> _Answer | None:
    return max(
        found.values(), key=lambda one: one.sums.value if one.higher_is_better else -one.sums.value, default=None
    )


def _difference(name: str, answer: _Answer, other: _Answer, is_paired: bool = True) -> dict[str, float | None]:
    """The answer less another one, with an interval; paired if both are about the same models."""
    a, b = answer.replicates, other.replicates
    between = None if a is None or b is None else contrast(a, b, is_paired)
    return {name: answer.sums.value - other.sums.value, **_ends(f"{name}_", between)}


def _ends(prefix: str, values: Replicates | None) -> dict[str, float | None]:
    low, high = (None, None) if values is None else interval(values)
    return {f"{prefix}low": low, f"{prefix}high": high}
