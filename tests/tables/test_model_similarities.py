"""Scores of whole models, from tables small enough to be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.report.figures import compared_models
from harness.storage.records import Record, row
from harness.storage.store import Store
from harness.tables.results import Results
from harness.views.suite import views_of
from tests.support.toy_suites import model_folder, plan_of, raw_suite

# Of a 6-layer model sites at relative depths 0 and 1, of another at 0, 0.4 and 1.
SITES_A, SITES_B = ["resid_post.0", "resid_post.5"], ["resid_post.0", "resid_post.2", "resid_post.5"]
VALUES = [[0.9, 0.2, 0.4], [0.3, 0.5, 0.7]]
NULLS = [[0.1, 0.3, 0.2], [0.0, 0.1, 0.2]]

Rows = Callable[[Cell, int, int], list[dict[str, Any]]]
"""The rows of a cell that compares these two sites, -1 for all of them."""


def _model(folder: Path, label: str, sites: list[str]) -> dict[str, Any]:
    return {"model": "toy", "path": model_folder(folder / label, label), "label": label, "sites": sites}


def _rows(higher: bool = True, **changed: Mapping[tuple[int, int], Any]) -> Rows:
    """Value and null of every pair; `changed` has other numbers, or reasons why there are none, by metric."""

    def rows(cell: Cell, i: int, j: int) -> list[dict[str, Any]]:
        found = {"similarity": 0.6, "null_shuffled_rows": 0.05}
        if i >= 0:
            found = {"similarity": VALUES[i][j], "null_shuffled_rows": NULLS[i][j]}
        found |= {metric: values[i, j] for metric, values in changed.items() if (i, j) in values}
        return [
            row("similarity", metric, None, 9, higher, value)
            if isinstance(value, str)
            else row("similarity", metric, value, 9, higher)
            for metric, value in found.items()
        ]

    return rows


def _results(folder: Path, rows: Rows, models: list[dict[str, Any]] | None = None, **changes: Any) -> Results:
    models = models or [_model(folder, "one", SITES_A), _model(folder, "two", SITES_B)]
    raw = raw_suite(
        folder,
        **{"models": models, "sites": [], "methods": ["atomic"], "similarities": ["angle"], "seeds": [0]} | changes,
    )
    plan, store = plan_of(raw), Store(folder / "results", folder / "cache")
    for cell in plan.of_kind("similarity"):
        store.write_record(cell.key, _record(cell, plan, rows))
    results = Results.of(plan, store)
    for shown in views_of(results):
        assert shown.title and all(len(row) == len(shown.columns) for row in shown.rows)
    json.dumps(results.boards_as_json(), allow_nan=False)
    return results


def _record(cell: Cell, plan: Plan, rows: Rows) -> Record:
    sites = {model.label: model.sites for model in plan.suite.models}
    places = {
        cell.columns[f"model{b}"]: -1
        if cell.columns[f"site{b}"].startswith("all")
        else sites[cell.columns[f"model{b}"]].index(cell.columns[f"site{b}"])
        for b in ("", "_b")
    }
    if len(places) == 1:  # sites of one model
        return Record("done", rows=[row("similarity", "similarity", 0.123, 9, True)])
    made = rows(cell, *(places[model.label] for model in plan.suite.models))
    if made and "failed" in made[0]:
        return Record("failed", "ValueError", made[0]["failed"])
    return Record("done", rows=made)


def test_scores_are_calibrated_by_the_same_scores_of_random_pairings(tmp_path: Path) -> None:
    """The best layers of each pairing, not the best of each layer's pairings, nor each layer by itself."""
    generator = np.random.default_rng(0)
    permuted = generator.uniform(0, 0.8, (39, 2, 3))
    values = np.array(VALUES)

    def rows(cell: Cell, i: int, j: int) -> list[dict[str, Any]]:
        beside = row("similarity", "p_value", 0.1, 39, None) | {"permuted": permuted[:, i, j].tolist(), "best": 1.0}
        return [row("similarity", "similarity", VALUES[i][j], 9, True), beside]

    results = _results(tmp_path, rows, permutations=39)
    lines = results.model_similarities.set_index("score")

    def best(alike: np.ndarray) -> float:
        return float((alike.max(axis=1).mean() + alike.max(axis=0).mean()) / 2)

    nulls = sorted(best(one) for one in permuted)
    own = best(values)
    line = lines.loc["best_layer"]
    assert line["value"] == pytest.approx(own)
    assert line["p_value"] == (1 + sum(null >= own for null in nulls)) / 40
    quantile = sorted([*nulls, own])[37]  # of 40, the 38th
    assert line["calibrated"] == pytest.approx(max(0.0, (own - quantile) / (1 - quantile)))
    assert own < max(nulls) and 0 < lines.loc["same_depth", "p_value"] <= 1
    headings = [column.heading for shown in views_of(results) if "Models" in shown.title for column in shown.columns]
    assert {"best layer p", "best layer calibrated"} <= set(headings)


def test_there_is_no_calibrated_score_where_nobody_asked(tmp_path: Path) -> None:
    results = _results(tmp_path, _rows())
    assert results.model_similarities[["p_value", "calibrated"]].isna().all(axis=None)
    assert results.similarities[["p_value", "calibrated"]].isna().all(axis=None)


def _numbers(results: Results) -> dict[str, tuple[float, float]]:
    board = results.model_similarities
    return {line.score: (line.value, line.null) for line in board.itertuples()}


def test_scores_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    results = _results(tmp_path, _rows(), whole_models=True)
    assert _numbers(results) == {
        "union": (0.6, 0.05),
        "best_layer": (pytest.approx((0.8 + 0.7) / 2), pytest.approx((0.25 + 0.2) / 2)),
        "same_depth": (pytest.approx((0.8 + 0.6) / 2), pytest.approx((0.15 + 0.2) / 2)),
    }
    board = results.model_similarities
    assert set(board["model"]) == {"one"} and set(board["model_b"]) == {"two"} and board["error"].isna().all()
    assert not results.similarities["site"].str.startswith("all").any()  # sites are compared with sites
    assert len(results.similarities) == 6 + 1 + 3


def test_the_best_of_distances_is_the_least(tmp_path: Path) -> None:
    results = _results(tmp_path, _rows(higher=False))
    numbers = _numbers(results)
    assert numbers["best_layer"][0] == pytest.approx((0.25 + 0.9 / 3) / 2) and "union" not in numbers
    assert numbers["same_depth"][0] == pytest.approx(0.7)
    assert not results.model_similarities["higher_is_better"].any()


def test_the_order_of_the_models_changes_no_number(tmp_path: Path) -> None:
    def turned(cell: Cell, j: int, i: int) -> list[dict[str, Any]]:
        return _rows()(cell, i, j)

    models = [_model(tmp_path, "two", SITES_B), _model(tmp_path, "one", SITES_A)]
    ours, theirs = (
        _numbers(_results(tmp_path / name, rows, models, whole_models=True))
        for name, rows, models in (("a", _rows(), models[::-1]), ("b", turned, models))
    )
    assert ours.keys() == theirs.keys() and len(ours) == 3
    assert all(ours[score] == pytest.approx(theirs[score]) for score in ours)


def test_both_directions_of_a_similarity_count(tmp_path: Path) -> None:
    turned = {(i, j): VALUES[i][j] + 0.1 for i in range(2) for j in range(3)}
    numbers = _numbers(_results(tmp_path, _rows(similarity_reversed=turned)))
    assert numbers["best_layer"][0] == pytest.approx(0.75 + 0.05)
    numbers = _numbers(_results(tmp_path / "b", _rows(similarity_reversed={**turned, (0, 0): "no rows"})))
    assert np.isnan(numbers["best_layer"][0])


@pytest.mark.parametrize(
    ("pair", "undefined"), [((1, 1), {"best_layer"}), ((0, 2), {"best_layer"}), ((0, 1), {"best_layer", "same_depth"})]
)
def test_a_score_that_needs_what_is_undefined_is_undefined(
    tmp_path: Path, pair: tuple[int, int], undefined: set[str]
) -> None:
    results = _results(tmp_path, _rows(similarity={pair: "n <= d"}), whole_models=True)
    board = results.model_similarities.set_index("score")
    assert set(board.index[board["value"].isna()]) == undefined == set(board.index[board["error"].notna()])
    assert board["null"].notna().all()
    why = board.loc["best_layer", "error"]
    assert why == f"1 of 6 pairs of sites have no value; {SITES_A[pair[0]]} and {SITES_B[pair[1]]}: n <= d"


def test_a_comparison_that_failed_or_is_missing_is_not_left_out(tmp_path: Path) -> None:
    def failing(cell: Cell, i: int, j: int) -> list[dict[str, Any]]:
        return [{"failed": "out of luck"}] if (i, j) in ((0, 0), (-1, -1)) else _rows()(cell, i, j)

    board = _results(tmp_path, failing, whole_models=True).model_similarities.set_index("score")
    assert board["value"].isna().all() and board["error"].str.endswith("ValueError: out of luck").all()
    plan, store = plan_of(raw_suite(tmp_path, similarities=["angle"])), Store(tmp_path / "r", tmp_path / "c")
    cells = [cell for cell in plan.of_kind("similarity") if cell.columns["model"] != cell.columns["model_b"]]
    store.write_record(cells[0].key, Record("done", rows=[row("similarity", "similarity", 0.5, 9, True)]))
    board = Results.of(plan, store).model_similarities
    assert board["value"].isna().all() and board["error"].str.contains("they were not compared").all()


def test_where_layers_are_not_known_the_order_of_sites_is_the_depth(tmp_path: Path) -> None:
    """Its second site of three is as near to the first of the other as to the last."""
    own = {"model": "own_rows", "label": "own", "sites": ["resid_post.7", "resid_post.9", "resid_post.30"]}
    numbers = _numbers(_results(tmp_path, _rows(), [_model(tmp_path, "one", SITES_A), own]))
    assert numbers["same_depth"][0] == pytest.approx(((0.9 + 0.7) / 2 + (0.9 + (0.2 + 0.5) / 2 + 0.7) / 3) / 2)


def test_a_site_is_no_match_for_one_of_another_kind(tmp_path: Path) -> None:
    models = [_model(tmp_path, "one", SITES_A), _model(tmp_path, "two", ["resid_post.0", "mlp_out.2", "resid_post.5"])]
    board = _results(tmp_path, _rows(), models).model_similarities.set_index("score")
    assert np.isnan(board.loc["same_depth", "value"]) and "of a kind" in board.loc["same_depth", "error"]
    assert board.loc["best_layer", "value"] == pytest.approx(0.75)
    models = [_model(tmp_path, label, ["resid_post.1", "mlp_out.1"]) for label in ("three", "four")]
    numbers = _numbers(_results(tmp_path / "b", _rows(), models))
    assert numbers["same_depth"][0] == pytest.approx((0.9 + 0.5) / 2)  # by place in the list: 0 with 0, 1 with 1


def test_seeds_are_averaged_and_methods_are_apart(tmp_path: Path) -> None:
    def of_seed(cell: Cell, i: int, j: int) -> list[dict[str, Any]]:
        k, seed = cell.columns["method_config"].count('"k":8'), cell.columns["seed"]
        missing = {"similarity": {(-1, -1): "no atoms"}} if (k, seed) == (1, 1) else {}
        lines = _rows(**missing)(cell, i, j)
        return [line | {"value": line["value"] and line["value"] + 0.02 * seed} for line in lines]

    methods = [{"method": "atomic", "k": [4, 8]}, "dense"]
    changes = {"methods": methods, "similarities": ["overlap"], "seeds": [0, 1], "whole_models": True}
    board = _results(tmp_path, of_seed, **changes).model_similarities
    assert len(board) == 2 * 3 and (board["seeds"] == 2).all() and (board["fit_tokens"] == 1000).all()
    by_k = {key: lines.set_index("score") for key, lines in board.groupby("method_config", sort=False)}
    four, eight = by_k.values()
    assert four["value"].tolist() == pytest.approx([0.61, 0.76, 0.71])
    assert np.isnan(eight.loc["union", "value"]) and eight.loc["union", "error"] == "no atoms"
    assert eight.loc["best_layer", "value"] == pytest.approx(0.76)


def test_one_model_is_compared_with_no_other(tmp_path: Path) -> None:
    results = _results(tmp_path, _rows(), [_model(tmp_path, "one", SITES_A)], whole_models=True)
    assert results.model_similarities.empty and "model_similarities" not in results.boards


def test_each_score_has_a_map_of_its_own(tmp_path: Path) -> None:
    models = [_model(tmp_path, label, ["resid_post.1"]) for label in ("one", "two")]
    results = _results(tmp_path, _rows(), models, similarities=["angle", "overlap"], whole_models=True)
    drawn = {plot.key: plot for found in compared_models(results.model_similarities) for plot in found.maps}
    assert list(drawn) == [
        ("models", *metric, score)
        for metric in (("angle",), ("overlap", "atomic 1000 tokens"))
        for score in ("union", "best_layer", "same_depth")
    ]
    (value, null, _) = drawn["models", "angle", "union"].draw().axes
    for panel, number in ((value, "0.60"), (null, "0.05")):
        assert {(*text.get_position(), text.get_text()) for text in panel.texts} == {
            (0.5, 1.5, number),
            (1.5, 0.5, number),
        }
        assert [label.get_text() for label in panel.get_xticklabels()] == ["one", "two"]


def test_a_csv_has_what_the_board_has(tmp_path: Path) -> None:
    results = _results(tmp_path, _rows(), whole_models=True)
    results.write(tmp_path / "written")
    written = pd.read_csv(tmp_path / "written" / "model_similarities.csv")
    assert written["value"].tolist() == results.model_similarities["value"].tolist()
    assert [line["score"] for line in results.boards_as_json()["model_similarities"]] == written["score"].tolist()
