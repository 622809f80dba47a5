"""Cells know the plugin files whose code their work may run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.planning.entries import Entry
from harness.planning.plan import Plan, build_plan
from tests.support.toy_suites import plan_of, raw_suite

OF_SCORERS = {"tokens": {"fit": 1000, "evaluation": 200, "interp": 100}, "explainers": ["rule"], "similarities": []}
OF_SCORERS |= {"scorers": ["lookup", "reading", "asking"], "judge": "embedder", "encoder": "judge"}


def _of_file(plan: Plan, kind: str, name: str) -> Plan:
    """The plan as it is where a plugin has come as `own.py`."""

    def own(entry: Entry) -> Entry:
        return replace(entry, file="own.py") if (entry.kind, entry.name) == (kind, name) else entry

    suite = plan.suite
    lists = ("methods", "similarities", "evaluations", "scorers", "explainers")
    changed = {field: tuple(map(own, getattr(suite, field))) for field in lists}
    models = tuple(replace(model, entry=own(model.entry)) for model in suite.models)
    judge, corpus = suite.judge and own(suite.judge), suite.corpus and own(suite.corpus)
    return build_plan(replace(suite, models=models, judge=judge, corpus=corpus, **changed))


def test_without_plugin_files_there_are_none(tmp_path: Path) -> None:
    assert not any(cell.plugin_files for cell in plan_of(raw_suite(tmp_path)).cells.values())


def test_a_method_of_a_file_is_run_by_its_fits_and_all_that_rests_on_them(tmp_path: Path) -> None:
    plan = _of_file(plan_of(raw_suite(tmp_path)), "method", "atomic")
    for cell in plan.cells.values():
        rests_on_it = cell.columns.get("method") == "atomic"
        assert cell.plugin_files == (("own.py",) if rests_on_it else ()), cell.label
    assert {cell.kind for cell in plan.cells.values() if cell.plugin_files} == {"fit", "evaluation", "similarity"}


@pytest.mark.parametrize(
    ("kind", "name", "column"),
    [("evaluation", "quality", "evaluation"), ("similarity", "angle", "similarity"), ("scorer", "lookup", "scorer")],
)
def test_what_only_looks_at_fits_is_run_by_its_own_cells(tmp_path: Path, kind: str, name: str, column: str) -> None:
    raw = raw_suite(tmp_path, **OF_SCORERS) if kind == "scorer" else raw_suite(tmp_path)
    plan = _of_file(plan_of(raw), kind, name)
    for cell in plan.cells.values():
        assert cell.plugin_files == (("own.py",) if cell.columns.get(column) == name else ()), cell.label


def test_an_explainer_is_run_by_who_reads_what_it_says(tmp_path: Path) -> None:
    plan = _of_file(plan_of(raw_suite(tmp_path, **OF_SCORERS)), "explainer", "rule")
    found = {(cell.kind, cell.columns.get("scorer")) for cell in plan.cells.values() if cell.plugin_files}
    assert found == {("explanation", None), ("scoring", "reading")}


def test_a_judge_is_run_by_who_asks_it(tmp_path: Path) -> None:
    plan = _of_file(plan_of(raw_suite(tmp_path, **OF_SCORERS)), "judge", "embedder")
    found = {cell.columns.get("scorer") for cell in plan.cells.values() if cell.plugin_files}
    assert found == {"asking", "reading"}


@pytest.mark.parametrize(("kind", "name"), [("model", "toy"), ("corpus", "texts")])
def test_rows_of_a_file_make_all_that_rests_on_them_its_own(tmp_path: Path, kind: str, name: str) -> None:
    plan = _of_file(plan_of(raw_suite(tmp_path)), kind, name)
    assert {cell.plugin_files for cell in plan.cells.values()} == {("own.py",)}
