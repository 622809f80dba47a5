"""The results of a suite so far: its tables, and the boards that are condensed from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import replacing
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.registry.metric import Metric
from harness.storage.made import Made, source_of
from harness.storage.store import Store
from harness.tables.circuits import circuit_scores
from harness.tables.declared import Declared
from harness.tables.interpretability import interpretability
from harness.tables.labels import labelled
from harness.tables.leaderboard import evaluations, leaderboard, metrics_of, similarities
from harness.tables.model_similarities import model_similarities
from harness.tables.permuted import permuted_values
from harness.tables.scales import scale_values, scales
from harness.tables.sealed_tables import table_damage
from harness.tables.task_board import ranks, task_scores
from harness.tables.tidy import CIRCUIT_COLUMNS, COLUMNS, RowsWithSums, read_tables, write_tables
from harness.tables.verdicts import FILE as VERDICTS
from harness.tables.verdicts import Verdicts


@dataclass(frozen=True)
class Results:
    """The tables, boards and verdicts of a suite, made from records alone, at any time."""

    suite: Suite
    tables: dict[str, pd.DataFrame]
    leaderboard: pd.DataFrame
    similarities: pd.DataFrame
    model_similarities: pd.DataFrame
    interpretability: pd.DataFrame
    evaluations: dict[str, pd.DataFrame]
    task_scores: pd.DataFrame
    similarity_ranks: pd.DataFrame
    circuit_scores: pd.DataFrame
    scales: pd.DataFrame
    verdicts: Verdicts
    declared: Declared
    source: str
    """The name of what they are made from."""

    @classmethod
    def of(cls, plan: Plan, store: Store) -> Results:
        source = source_of(plan, store)  # before they are read: what changes meanwhile is read again next time
        suite, (tables, with_sums) = plan.suite, read_tables(plan, store)
        scores, declared = task_scores(plan, with_sums), Declared.of(suite)
        found = evaluations(tables, declared)
        scores_of_latents = interpretability(tables["interp"], floors_of(suite)).assign(
            seeds_vary=suite.config.seeds_vary
        )
        of_models = model_similarities(plan, tables["similarity"], permuted_values(plan, with_sums))
        return cls(
            suite=suite,
            tables=tables,
            leaderboard=labelled(leaderboard(plan, tables, with_sums), suite),
            similarities=labelled(similarities(tables), suite),
            model_similarities=labelled(of_models, suite),
            interpretability=labelled(scores_of_latents, suite),
            evaluations={name: labelled(board, suite) for name, board in found.items()},
            task_scores=labelled(scores, suite),
            similarity_ranks=labelled(ranks(scores, plan, tables), suite),
            circuit_scores=labelled(_circuits(plan, tables, with_sums), suite),
            scales=scales(suite, scale_values(tables, suite, floors_of(suite))),
            verdicts=Verdicts(plan, store),
            declared=declared,
            source=source,
        )

    def with_frames(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Results:
        """A copy in which every table and board is changed."""
        changed: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, pd.DataFrame):
                changed[name] = change(value)
            elif name in ("tables", "evaluations"):
                changed[name] = {own: change(frame) for own, frame in value.items()}
        return replace(self, **changed)

    @property
    def boards(self) -> dict[str, pd.DataFrame]:
        """The boards that have lines, by name."""
        named = {"leaderboard": self.leaderboard, "interpretability": self.interpretability}
        named |= {"model_similarities": self.model_similarities}
        named |= {"task_scores": self.task_scores, "similarity_ranks": self.similarity_ranks}
        named |= {"circuit_scores": self.circuit_scores}
        named |= {"scales": self.scales}
        return {name: board for name, board in named.items() if len(board)}

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """Tables and boards by name."""
        return {**self.tables, **self.boards}

    def metrics_of(self, evaluation: str) -> list[Metric]:
        """The metrics that the board of an evaluation has columns for."""
        return [self.declared.of_name(evaluation, name) for name in metrics_of(self.evaluations[evaluation])]

    @property
    def is_empty(self) -> bool:
        return not any(map(len, self.tables.values()))

    def boards_as_json(self) -> dict[str, Any]:
        """All boards as lists of lines, ready for JSON."""
        return {
            "methods": _lines(self.leaderboard),
            "similarities": _lines(self.similarities),
            "model_similarities": _lines(self.model_similarities),
            "interpretability": _lines(self.interpretability),
            "task_scores": _lines(self.task_scores),
            "similarity_ranks": _lines(self.similarity_ranks),
            "circuit_scores": _lines(self.circuit_scores),
            "scales": _lines(self.scales),
            "evaluations": {name: _lines(board) for name, board in self.evaluations.items()},
        }

    def write(self, folder: Path) -> None:
        """Write the tables under `tables/`, and the boards and verdicts beside it, unless these are there already."""
        made = Made(folder)
        if made.is_current("tables", self.source) and not table_damage(folder / "tables"):
            return
        write_tables(self.tables, folder / "tables")
        self.verdicts.write(folder)
        for name, board in self.boards.items():
            with replacing(folder / f"{name}.csv") as temporary:
                board.to_csv(temporary, index=False)
        made.remember("tables", self.source, ["tables", VERDICTS, *(f"{name}.csv" for name in self.boards)])


def floors_of(suite: Suite) -> list[str]:
    """The scorers that the lift of the others is taken over."""
    return [scorer.name for scorer in suite.scorers if "floor" in scorer.provides]


def _circuits(plan: Plan, tables: dict[str, pd.DataFrame], with_sums: RowsWithSums) -> pd.DataFrame:
    table = tables.get("circuits", pd.DataFrame(columns=[*COLUMNS, *CIRCUIT_COLUMNS]))
    return circuit_scores(plan, table, with_sums)


def _lines(board: pd.DataFrame) -> Any:
    return json.loads(board.to_json(orient="records", double_precision=15))
