"""The leaderboard: matched L0, tiers over several seeds, costs, and nulls that stay null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import Metric
from harness.planning.plan import Plan
from harness.registry.metric import TAKEN_NAMES, interval_columns
from harness.report.sheets import sheet
from harness.storage.records import Record, cost, row
from harness.storage.store import Store
from harness.tables.declared import Declared
from harness.tables.leaderboard import evaluations, metrics_of, ranking
from harness.tables.results import Results
from harness.tables.tidy import SIDE
from harness.views.suite import views_of
from harness.views.view import measured, view
from tests.support.toy_suites import plan_of, raw_suite

N_DOCUMENTS = 30
L0 = {1: 10.0, 2: 10.9, 3: 10.4, 4: 40.0}
EXPLAINED = {1: 0.6, 2: 0.7, 3: 0.6, 4: 0.5}


def _board(
    tmp_path: Path, seeds: list[int], skip: Any = lambda cell: False, step: float = 0.0, **changes: Any
) -> tuple[Plan, pd.DataFrame]:
    methods = [{"method": "atomic", "k": [1, 2, 3, 4]}]
    raw = raw_suite(tmp_path, methods=methods, seeds=seeds, similarities=[], **changes)
    plan, store = plan_of(raw), Store(tmp_path / "results", tmp_path / "cache")
    generator = np.random.default_rng(0)
    for cell in plan.cells.values():
        rows = []
        if cell.kind == "capture" and cell.work["split"] == "fit":
            rows = [cost("capture_seconds", 7.0, 100)]
        if cell.kind == "fit":
            rows = [cost("fit_seconds", 2.0 + cell.columns["seed"], 100)]
        if cell.kind == "evaluation":
            k = cell.work["evaluation"] and int(plan.cells[cell.work["fit"]].work["method"]["params"]["k"])
            explained = EXPLAINED[k] + step * cell.columns["seed"] + 0.001 * generator.standard_normal(N_DOCUMENTS)
            sums = {"numerator": explained.tolist(), "denominator": [1.0] * N_DOCUMENTS}
            value = None if skip(cell) else float(explained.mean())
            measured = row("quality", "explained_variance", value, 100, True, "why" if skip(cell) else None)
            rows = [
                measured | {"documents": None if skip(cell) else sums},
                row("quality", "l0", L0[k], 100, None),
            ]
        store.write_record(cell.key, Record("done", rows=rows))
    results = Results.of(plan, store)
    for shown in views_of(results):
        assert shown.title and all(len(row) == len(shown.columns) for row in shown.rows)
    return plan, results.leaderboard


def test_the_names_of_its_own_columns_are_taken(tmp_path: Path) -> None:
    """Else an evaluation could declare a metric of that name, and one of the two would be lost."""
    plan, board = _board(tmp_path, [0])
    metrics = Declared.of(plan.suite).columns
    own = set(board) - set(metrics) - {column for name in metrics for column in interval_columns(name)}
    assert own <= set(TAKEN_NAMES) and {"method", "tier", "total_seconds", "method_label"} <= own
    assert set(SIDE) <= set(TAKEN_NAMES)


def _ks(board: pd.DataFrame) -> list[int]:
    return [int(config.split('"k":')[1].split(",")[0]) for config in board["method_config"]]


def test_an_interval_ends_where_the_metric_says(tmp_path: Path) -> None:
    """Two seeds that differ by .2 say that it may be anything, but not above the declared 1."""
    _, board = _board(tmp_path, [0, 1], step=0.2)
    assert (board["explained_variance_high"] == 1).all() and (board["explained_variance_low"] < 0).all()


def test_methods_are_ranked_where_their_l0_is_equal(tmp_path: Path) -> None:
    _, board = _board(tmp_path, [0, 1, 2])
    assert len(board) == 4 * 4  # places and methods
    place = board[(board["model"] == "model-b") & (board["site"] == "mlp_out.2")]
    assert _ks(place)[0] == 2 and _ks(place)[-1] == 4 and set(_ks(place)[1:3]) == {1, 3}
    assert place["matched_l0"].tolist() == [0, 0, 0, 1]
    assert place["tier"].tolist()[:3] == [1, 2, 2] and pd.isna(place["tier"].iloc[3])  # alone at its L0: no rank
    by_k = dict(zip(_ks(place), place["pareto"], strict=True))
    assert by_k[2] and not by_k[4]
    for line in place.itertuples():
        assert line.explained_variance_low < line.explained_variance < line.explained_variance_high
        assert line.explained_variance_documents == N_DOCUMENTS
        assert (line.fit_seconds, line.total_seconds, line.seeds) == (3.0, 10.0, 3)


def _probing(seeds: list[int]) -> pd.DataFrame:
    """Rows of an evaluation of two metrics, one with an interval."""
    lines = [
        {"family": "f", "model": "m", "site": "s", "fit_tokens": 9, "method": "a", "method_config": "{}", "seed": seed}
        | {"metric": metric, "value": value + seed}
        for seed in seeds
        for metric, value in (("auc", 0.5), ("auc_low", 0.4), ("auc_high", 0.6), ("very_low", 3.0), ("l0", 7.0))
    ]
    return pd.DataFrame(lines)


def test_an_evaluation_has_a_column_for_each_metric_and_intervals_of_a_single_seed() -> None:
    declared = Declared({"probing": (Metric("l0", "L0", "", role="sparsity"), Metric("auc", "AUC", "", format=".2f"))})
    (board,) = evaluations({"probing": _probing([0])}, declared).values()
    assert metrics_of(board) == ["auc", "very_low"]  # nothing is called `very`, and l0 is on the leaderboard
    assert board[["auc", "auc_low", "auc_high", "seeds"]].to_numpy().tolist() == [[0.5, 0.4, 0.6, 1]]
    fields = [measured(declared.of_name("probing", name)) for name in metrics_of(board)]
    shown = sheet(view("probing", fields, board.to_dict("records")))
    assert [column.heading for column in shown.columns] == ["AUC", "very low"]
    assert [(value.text, value.note) for value in shown.rows[0]] == [("0.50", "0.40 to 0.60"), ("3", "")]
    (board,) = evaluations({"probing": _probing([0, 1])}, declared).values()
    assert metrics_of(board) == ["auc", "very_low"] and "auc_low" not in board
    assert board[["auc", "seeds"]].to_numpy().tolist() == [[1.0, 2]]


def test_a_metric_called_value_is_shown_with_its_own_interval() -> None:
    line = {"value": 0.5, "value_low": 0.4, "value_high": 0.6, "low": 7.0, "high": 8.0}
    shown = sheet(view("probing", [measured(Metric("value", "value", "", format=".1f"))], [line]))
    assert [(value.text, value.note) for value in shown.rows[0]] == [("0.5", "0.4 to 0.6")]


def test_one_seed_ranks_nobody(tmp_path: Path) -> None:
    _, board = _board(tmp_path, [0])
    assert board["tier"].isna().all() and board["explained_variance_low"].isna().all()
    assert board["explained_variance"].notna().all() and board["explained_variance_documents"].isna().all()


def test_a_metric_that_is_undefined_in_one_seed_has_no_mean(tmp_path: Path) -> None:
    """The mean of the other seeds would stand for what was not measured."""
    _, board = _board(
        tmp_path, [0, 1, 2], skip=lambda cell: cell.columns["seed"] == 1 and '"k":2' in cell.columns["method_config"]
    )
    undefined = board[[k == 2 for k in _ks(board)]]
    assert undefined["explained_variance"].isna().all() and undefined["tier"].isna().all()
    assert undefined["explained_variance_low"].isna().all()
    assert board["explained_variance"].notna().sum() == 12


def test_budgets_are_lines_of_one_place_and_are_ranked_apart(tmp_path: Path) -> None:
    """A method that learnt from 50 rows is no rival of one that learnt from 1,000."""
    _, board = _board(tmp_path, [0, 1, 2], tokens={"fit": [50, 1000], "evaluation": 200})
    assert len(board) == 4 * 4 * 2
    place = board[(board["model"] == "model-b") & (board["site"] == "mlp_out.2")]
    assert place["fit_tokens"].tolist() == [50] * 4 + [1000] * 4
    assert place["matched_l0"].tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert place["tier"].tolist()[:3] == place["tier"].tolist()[4:7] == [1, 2, 2]
    assert place["tier"].isna().tolist() == [False, False, False, True] * 2


def test_a_tier_is_among_lines_within_a_tenth_of_its_own_sparsity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """37 and 43.9 are both compared with 40, but not with each other."""
    monkeypatch.setitem(globals(), "L0", {1: 37.0, 2: 40.0, 3: 43.9, 4: 80.0})
    monkeypatch.setitem(globals(), "EXPLAINED", {1: 0.6, 2: 0.5, 3: 0.7, 4: 0.9})
    _, board = _board(tmp_path, [0, 1, 2])
    place = board[(board["model"] == "model-b") & (board["site"] == "mlp_out.2")]
    found = {k: tier for k, tier in zip(_ks(place), place["tier"], strict=True) if not pd.isna(tier)}
    assert found == {1: 1, 2: 3, 3: 1}
    assert place["matched_l0"].tolist() == [0, 0, 0, 1] and _ks(place) == [3, 1, 2, 4]


@pytest.mark.parametrize("seeds_vary", ["order", "documents"])
def test_the_board_says_what_differs_between_seeds(tmp_path: Path, seeds_vary: str) -> None:
    plan, board = _board(tmp_path, [0, 1, 2], seeds_vary=seeds_vary)
    assert set(board["seeds_vary"]) == {seeds_vary} and set(board["capture_seconds"]) == {7.0}
    note = ranking(board[board["site"] == "mlp_out.2"], Declared.of(plan.suite))
    assert ("each with training documents of its own" in note) == (seeds_vary == "documents")


def test_a_suite_without_a_result_has_an_empty_board(tmp_path: Path) -> None:
    plan, store = plan_of(raw_suite(tmp_path)), Store(tmp_path / "results", tmp_path / "cache")
    results = Results.of(plan, store)
    assert len(results.leaderboard) == 0 and list(views_of(results)) == []


@pytest.mark.parametrize("table", ["reconstruction", "cost"])
def test_columns_are_the_same_whatever_is_done(tmp_path: Path, table: str) -> None:
    assert {"l0", "tier", "pareto", "matched_l0", "explained_variance_low"} <= set(_board(tmp_path, [0])[1].columns)
