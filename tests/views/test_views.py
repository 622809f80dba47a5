"""Views: derived once, so that terminal, page and W&B say the same, each in its own way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness.cli import boards
from harness.planning.plan import Plan
from harness.report.sheets import sheet
from harness.report.tracking import _views
from harness.storage.store import Store
from harness.tables.results import Results
from harness.views.missing import undefined_view
from harness.views.suite import views_of
from harness.views.view import INTERVAL, REST, Column, Field, Item, View, methods, number, view
from tests.support.report_examples import finished, report_of
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    return finished(tmp_path_factory.mktemp("views"), n_cards=1)


def _printed(shown: View, width: int = 400) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in boards.draw(shown, width):
        console.print(part)
    return _plain(console.file.getvalue())  # type: ignore[attr-defined]


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_three_outputs_say_the_same(example: tuple[Plan, Store]) -> None:
    results = Results.of(*example)
    page = report_of(*example).read_text(encoding="utf-8")
    views, told = list(views_of(results)), list[str]()
    tables = _views(results, told.append)
    titles = [shown.title for shown in views]
    assert {"Methods on model-a resid_post.1", "angle", "overlap", "Latents of model-b resid_post.1"} <= set(titles)
    assert len(tables) == len(titles) and not told
    for shown, table in zip(views, tables.values(), strict=True):
        printed = _printed(shown)
        assert table.columns == shown.headings and table.data == shown.values
        assert shown.title in printed and all(
            _plain(heading) in printed for heading in shown.headings if "Pareto" not in heading
        )
        for label, *_ in shown.values:
            assert str(label) in printed
    methods_on = views[titles.index("Methods on model-a resid_post.1")]
    for column, row in zip(sheet(methods_on).columns, zip(*sheet(methods_on).rows, strict=True), strict=True):
        assert f">{column.heading}</button>" in page and all(value.text in page for value in row)
    assert methods_on.notes[0][1:] in page and methods_on.notes[0] in _printed(methods_on)


def test_labels_are_columns(tmp_path: Path, example: tuple[Plan, Store]) -> None:
    """Labels stand after all other columns of tables and of what is condensed from them."""
    results = Results.of(*example)
    for name, frame in results.frames.items():
        kinds = [kind for kind in ("method", "similarity", "scorer", "task") if kind in frame]
        assert list(frame.columns)[-len(kinds) :] == [f"{kind}_label" for kind in kinds], name
    labels = dict(zip(results.leaderboard["method_config"], results.leaderboard["method_label"], strict=True))
    assert set(labels.values()) == {"atomic(k=2)", "atomic", "dense(k=8)"}
    assert all(('"k":2' in config) == (label == "atomic(k=2)") for config, label in labels.items())
    captures = results.tables["cost"].query("metric == 'capture_seconds'")
    assert captures["method_label"].isna().all()


def test_the_terminal_has_one_column_of_intervals_and_the_page_all() -> None:
    fields = [
        number("a", "a", "", "{:.1f}".format, is_main=True),
        number("b", "b", "", "{:.2f}".format, spare=REST),
    ]
    line = {"a": 1.0, "a_low": 0.5, "a_high": 1.5, "b": -2.0, "b_low": -3.0, "b_high": pd.NA}
    other = {"a": None, "a_low": 0.5, "a_high": 1.5, "b": -2.0, "b_low": -3.0, "b_high": -1.0}
    shown = view("t", fields, [line, other], ["so it is"])
    assert [[value.note for value in row] for row in sheet(shown).rows] == [["0.5 to 1.5", ""], ["", "−3.00 to −1.00"]]
    printed = _printed(shown)
    assert "95 %" in printed and printed.count("0.5 to 1.5") == 1
    assert "3.00" not in printed and "so it is" in printed
    narrow = _printed(shown, width=12)
    assert "left out, for want of width: b" in " ".join(narrow.split()) and INTERVAL < REST


def test_a_reason_is_a_column_of_the_page_and_a_line_of_the_terminal() -> None:
    columns = [Column("a", write="{:.1f}".format), Column("why", is_reason=True)]
    shown = View("t", columns, [[Item(None), Item("no head")], [Item(None), Item("no head")], [Item(1.0), Item(None)]])
    assert [row[1].text for row in sheet(shown).rows] == ["no head", "no head", "–"]
    assert _printed(shown).count("undefined: no head") == 1 and "why" not in _printed(shown)


def test_budgets_are_shown_where_there_are_several() -> None:
    lines = pd.DataFrame({"method_label": ["m", "m"], "fit_tokens": [1000, 1000]})
    assert [field.column.heading for field in methods(lines)] == ["method"]
    swept = view("t", methods(lines.assign(fit_tokens=[1000, 50_000])), [{"method_label": "m", "fit_tokens": 50_000}])
    assert swept.headings == ["method", "fit tokens"] and sheet(swept).rows[0][1].text == "50,000"


def test_what_is_missing_is_told_by_reason(tmp_path: Path, example: tuple[Plan, Store]) -> None:
    found = undefined_view(Results.of(*example).tables)
    reasons: dict[Any, Any] = {row[2]: row for row in found.values}
    assert reasons["the model has no head "][:2] == ["quality", "loss_recovered"]
    empty = Store(tmp_path / "results", tmp_path / "cache")
    assert undefined_view(Results.of(plan_of(raw_suite(tmp_path)), empty).tables).rows == []


def test_a_field_says_what_stands_in_its_column() -> None:
    fields = [Field(Column("twice", write="{:.0f}".format), lambda line: Item(2 * line["x"]))]
    assert view("t", fields, [{"x": 2}, {"x": 3}]).values == [[4], [6]]
