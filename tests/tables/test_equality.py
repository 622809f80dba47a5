"""Two results are equal or not, whatever the machine, the commit and the order of their rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.cli import main as cli
from harness.errors import ConfigError
from harness.tables.equality import compare
from harness.tables.tidy import write_tables

Row = dict[str, Any]
ROWS: list[Row] = [
    {"model": "a", "site": "resid_post.1", "method": "pca", "metric": "l0", "value": 4.0, "n": 30},
    {"model": "a", "site": "resid_post.2", "method": "pca", "metric": "l0", "value": 0.1 + 0.2, "n": 30},
    {"model": "a", "site": None, "method": "pca", "metric": "fvu", "value": None, "n": 0, "error": "no luck"},
]
COST: list[Row] = [
    {"model": "a", "site": "resid_post.1", "method": "pca", "metric": "fit_seconds", "value": 0.3},
    {"model": "a", "site": "resid_post.1", "method": "pca", "metric": "tokens_seen", "value": 600.0},
    {
        "model": "a",
        "site": "resid_post.1",
        "method": "pca",
        "metric": "evaluation_seconds_reconstruction",
        "value": 1.5,
    },
]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tables of a results folder, each row with the columns of its run."""

    def write(name: str, **tables: list[Row]) -> Path:
        (tmp_path / name / "tables").mkdir(parents=True)
        for table, rows in tables.items():
            of_run = {"suite": name, "cell": name, "created_at": name, "git_sha": name, "device": name}
            frame = pd.DataFrame([{**row, **of_run, "status": "done"} for row in rows])
            frame.to_parquet(tmp_path / name / "tables" / f"{table}.parquet")
        return tmp_path / name

    return write


def _changed(place: int, **changes: Any) -> list[Row]:
    return [{**row, **changes} if i == place else row for i, row in enumerate(ROWS)]


def test_tables_that_changed_since_they_were_written_are_compared_with_nothing(tmp_path: Path) -> None:
    frame = pd.DataFrame([{**row, "status": "done"} for row in ROWS])
    for name in ("a", "b"):
        write_tables({"quality": frame}, tmp_path / name / "tables")
    assert compare(tmp_path / "a", tmp_path / "b")[0].is_equal
    path = tmp_path / "b" / "tables" / "quality.parquet"
    path.write_bytes(path.read_bytes().replace(b"resid_post.1", b"resid_post.3"))
    with pytest.raises(ConfigError, match=rf"{path} is damaged: its checksum differs\. `harness run` writes it again"):
        compare(tmp_path / "a", tmp_path / "b")
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path} is missing"):
        compare(tmp_path / "b", tmp_path / "a")


def test_tables_without_checksums_that_can_not_be_read_are_named(written: Callable[..., Path]) -> None:
    a, b = written("a", quality=ROWS), written("b", quality=ROWS)
    path = b / "tables" / "quality.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ConfigError, match=rf"{path} can't be read"):
        compare(a, b)


def test_runs_machines_and_orders_make_no_difference(written: Callable[..., Path]) -> None:
    slower = [{**COST[0], "value": 7.0}, COST[1], {**COST[2], "value": 2.5}]
    found = compare(written("a", quality=ROWS, cost=COST), written("b", cost=slower, quality=ROWS[::-1]))
    assert [(table.table, table.n_rows, table.is_equal) for table in found] == [("cost", 3, True), ("quality", 3, True)]


@pytest.mark.parametrize(
    ("changed", "column", "relative"),
    [
        (_changed(1, value=0.3), "value", (0.1 + 0.2 - 0.3) / (0.1 + 0.2)),  # the last bit
        (_changed(0, value=8.0), "value", 0.5),
        (_changed(0, value=None), "value", math.inf),
        (_changed(0, n=29), "n", 1 / 30),
        (_changed(2, error="another reason"), "error", math.inf),
    ],
)
def test_whatever_differs_is_found(
    written: Callable[..., Path], changed: list[Row], column: str, relative: float
) -> None:
    (table,) = compare(written("a", quality=ROWS), written("b", quality=changed))
    (found,) = table.different
    assert (found.column, table.n_rows, table.only_a, table.only_b) == (column, 3, [], [])
    assert found.relative == pytest.approx(relative, rel=1e-12)
    assert "value" not in found.what and found.what["method"] == "pca"


def test_a_count_among_the_costs_is_compared(written: Callable[..., Path]) -> None:
    (table,) = compare(written("a", cost=COST), written("b", cost=[COST[0], {**COST[1], "value": 601.0}, COST[2]]))
    assert [found.what["metric"] for found in table.different] == ["tokens_seen"]


def test_rows_tables_and_repeats_of_one_side_are_found(written: Callable[..., Path]) -> None:
    a = written("a", quality=[*ROWS, ROWS[0], {**ROWS[0], "value": 5.0}], more=ROWS[:1])
    quality, more = sorted(compare(a, written("b", quality=ROWS[:2])), key=lambda table: -table.n_rows)
    assert (quality.n_rows, len(quality.only_a), len(quality.only_b), quality.different) == (2, 3, 0, [])
    assert (more.n_rows, len(more.only_a)) == (0, 1)


def test_a_row_of_one_side_has_its_value_on_that_side(written: Callable[..., Path]) -> None:
    a, b = written("a", quality=ROWS[:1]), written("b", quality=ROWS[1:2])
    (table,) = compare(a, b)
    assert [(one.a, one.b) for one in (*table.only_a, *table.only_b)] == [(4.0, None), (None, 0.1 + 0.2)]


def test_the_farthest_apart_comes_first(written: Callable[..., Path]) -> None:
    changed = [{**row, "value": value} for row, value in zip(ROWS, (4.4, 0.6, None), strict=True)]
    (table,) = compare(written("a", quality=ROWS), written("b", quality=changed))
    assert [found.b for found in table.different] == [0.6, 4.4]


def test_the_verb_says_it_in_words_and_json(written: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(written("a", quality=ROWS)), str(written("b", quality=_changed(0, value=8.0)))
    assert cli.main(["compare", a, a]) == 0 and capsys.readouterr().out.endswith("\nequal\n")
    assert cli.main(["compare", a, b]) == 1
    printed = capsys.readouterr().out
    assert printed.endswith("\nnot equal\n") and "0.5" in printed and "resid_post.1" in printed
    assert cli.main(["compare", a, b, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["equal"] and told["tables"][0]["different"][0]["b"] == 8.0


def test_what_has_no_tables_can_not_be_compared(written: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no tables"):
        compare(written("a", quality=ROWS), tmp_path)
    assert cli.main(["compare", "only one"]) == 2
