"""Tables: every ended cell is in them, with its numbers or with why it has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest

from harness.planning.plan import Plan
from harness.storage.records import Record, row
from harness.storage.store import Store
from harness.tables.tidy import read_tables, write_tables
from tests.support.toy_suites import model_folder, plan_of, raw_suite

CONTRACT_COLUMNS = {
    *("suite", "cell", "status", "error", "family", "model", "site", "method", "method_config", "seed", "metric"),
    *("value", "n", "higher_is_better", "device", "harness_version", "plugin_version", "git_sha", "created_at"),
}
NUMBERS = {
    "value": "float64",
    "n": "Int64",
    "seed": "Int64",
    "fit_tokens": "Int64",
    "plugin_version": "Int64",
    "higher_is_better": "boolean",
}
OWN_NUMBERS = {
    "seed_b",
    "fit_tokens_b",
    "latent",
    "sign",
    "weight",
    "density",
    "active_share",
    "chance",
    "lowest",
    "highest",
}
PROVENANCE = {"device": "cpu", "harness_version": "9", "git_sha": "abc", "created_at": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    methods = [{"method": "atomic", "k": 2}]
    return plan_of(raw_suite(tmp_path, methods=methods, seeds=[3]), atomic=5, angle=6, toy=7)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


def _record(store: Store, plan: Plan, kind: str, *rows: dict[str, Any], place: int = 0, **record: Any) -> str:
    cell = plan.of_kind(kind)[place]
    store.write_record(cell.key, Record(**{"status": "done", "rows": list(rows), "provenance": PROVENANCE, **record}))
    return cell.key


def test_tables_without_a_row_have_their_columns_and_types(plan: Plan, store: Store) -> None:
    tables = read_tables(plan, store)[0]
    assert set(tables) == {"reconstruction", "cost", "similarity", "interp"}
    for table in tables.values():
        assert len(table) == 0 and set(table.columns) >= CONTRACT_COLUMNS
        assert {name: str(table[name].dtype) for name in NUMBERS} == NUMBERS
        assert all(table[name].dtype == "string" for name in table.columns if name not in {*NUMBERS, *OWN_NUMBERS})


def test_a_done_cell_has_one_row_for_each_metric(plan: Plan, store: Store) -> None:
    measured = [row("quality", "good", 0.1 + 0.2, 200, True), row("quality", "bad", -1e-300, 200, False)]
    key = _record(store, plan, "evaluation", *measured, row("cost", "evaluation_seconds", 1.5, 200, False))
    tables = read_tables(plan, store)[0]
    table = tables["quality"]
    assert table["metric"].tolist() == ["good", "bad"] and table["value"].tolist() == [0.1 + 0.2, -1e-300]
    first = table.iloc[0].to_dict()
    wanted = {"suite": "example", "cell": key, "status": "done", "method": "atomic", "seed": 3, "plugin_version": 5}
    wanted |= {"method_config": '{"k":2,"threshold":0.2}', "n": 200, "higher_is_better": True, **PROVENANCE}
    wanted |= {"family": "toys", "model": "model-a", "site": "resid_post.1"}
    assert {name: first[name] for name in wanted} == wanted
    assert pd.isna(first["error"]) and pd.isna(first["note"])
    assert tables["cost"]["metric"].tolist() == ["evaluation_seconds"]


def test_a_metric_without_a_value_is_null_with_the_reason(plan: Plan, store: Store, tmp_path: Path) -> None:
    _record(store, plan, "similarity", row("similarity", "similarity", None, 0, True, "no rows are shared"))
    _record(store, plan, "capture", row("cost", "seconds", 2.0, 10, False, "shared by 2 sites"))
    tables = read_tables(plan, store)[0]
    (undefined,) = tables["similarity"].to_dict("records")
    assert (undefined["status"], undefined["error"]) == ("undefined", "no rows are shared")
    assert pd.isna(undefined["value"]) and undefined["n"] == 0
    assert undefined["plugin_version"] == 6 and undefined["site_b"] == plan.of_kind("similarity")[0].columns["site_b"]
    (noted,) = tables["cost"].to_dict("records")
    assert (noted["status"], noted["note"], noted["split"], noted["plugin_version"]) == (
        "done",
        "shared by 2 sites",
        "fit",
        7,
    )
    write_tables(tables, tmp_path / "tables")
    on_disk = pyarrow.parquet.read_table(tmp_path / "tables" / "similarity.parquet")
    assert on_disk["value"].null_count == 1  # null, which is not the number NaN
    assert pd.read_csv(tmp_path / "tables" / "similarity.csv", keep_default_na=False)["value"].tolist() == [""]


@pytest.mark.parametrize(
    ("kind", "table"), [("capture", "cost"), ("fit", "cost"), ("evaluation", "quality"), ("similarity", "similarity")]
)
@pytest.mark.parametrize(
    ("record", "error"),
    [
        (
            {"status": "failed", "error_type": "ValueError", "error": "k is 0", "log": "logs/a.txt"},
            "ValueError: k is 0",
        ),
        ({"status": "skipped", "error_type": "UpstreamFailed", "error": "fit failed"}, "UpstreamFailed: fit failed"),
    ],
)
def test_a_cell_that_failed_or_was_skipped_is_a_row(
    plan: Plan, store: Store, kind: str, table: str, record: dict[str, Any], error: str
) -> None:
    key = _record(store, plan, kind, **record)
    (found,) = read_tables(plan, store)[0][table].to_dict("records")
    assert (found["cell"], found["status"], found["error"]) == (key, record["status"], error)
    assert pd.isna(found["metric"]) and pd.isna(found["value"])
    assert found["model"] and (pd.isna(found["log"]) or found["log"] == "logs/a.txt")


def test_a_cell_skipped_by_the_plan_is_a_row_without_a_record(tmp_path: Path, store: Store) -> None:
    raw = raw_suite(tmp_path, sites=["resid_post.1", "resid_post.77"], seeds=[0])
    deep = {"model": "toy", "path": model_folder(tmp_path / "deep", "c"), "label": "deep", "n_layers": 78}
    plan = plan_of({**raw, "models": [*raw["models"], {**deep, "family": "toys"}]})
    tables = read_tables(plan, store)[0]
    listed = pd.concat(tables.values())
    assert set(listed["cell"]) == {key for key, cell in plan.cells.items() if cell.skipped}
    assert set(listed["status"]) == {"skipped"} and set(listed["error"]) <= {
        "model-a has 6 blocks, 0 to 5",
        "model-b has 6 blocks, 0 to 5",
    }


def test_files_hold_what_the_tables_hold(plan: Plan, store: Store, tmp_path: Path) -> None:
    values = (0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0)
    _record(store, plan, "fit", *(row("cost", f"m{i}", value, 2**40, None) for i, value in enumerate(values)))
    _record(store, plan, "fit", status="failed", error_type="E", error='say "a,b"\nand\r\n\ttab', place=1)
    tables = read_tables(plan, store)[0]
    for _ in range(2):  # over the old ones
        write_tables(tables, tmp_path / "tables")
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables" / f"{name}.parquet"), table, check_exact=True)
        text = pd.read_csv(tmp_path / "tables" / f"{name}.csv", dtype="string")  # pandas' own floats are not exact
        pd.testing.assert_frame_equal(text.astype(table.dtypes.to_dict()), table, check_exact=True)
    assert sorted(path.suffix for path in (tmp_path / "tables").glob("[!.]*")) == [".csv"] * 4 + [".parquet"] * 4


def test_cells_of_another_plan_are_not_listed(plan: Plan, store: Store, tmp_path: Path) -> None:
    other = plan_of(raw_suite(tmp_path, methods=["dense"]))
    _record(store, other, "fit", row("cost", "fit_seconds", 1.0, 1, False))
    assert len(read_tables(plan, store)[0]["cost"]) == 0
    assert len(read_tables(other, store)[0]["cost"]) == 1
