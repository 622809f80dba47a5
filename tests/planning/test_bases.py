"""Methods that learn from the fits of others: which these are, what comes first, and what their keys rest on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.planning.plan import Plan
from harness.running.jobs import jobs_of
from tests.support.toy_suites import plan_of, raw_suite

GROUPING = {"method": "grouping", "of": "dense"}


def plan(folder: Path, *methods: Any, **versions: int) -> Plan:
    return plan_of(raw_suite(folder, methods=list(methods), similarities=[]), **versions)


def fits(found: Plan, method: str) -> dict[tuple[str, str, int], Any]:
    cells = [cell for cell in found.of_kind("fit") if cell.columns["method"] == method]
    return {tuple(cell.columns[name] for name in ("model", "site", "seed")): cell for cell in cells}


def test_a_fit_learns_from_the_one_of_the_same_rows_and_seed(tmp_path: Path) -> None:
    found = plan(tmp_path, GROUPING, "dense")  # though it stands first
    of_groups, of_dense = fits(found, "grouping"), fits(found, "dense")
    assert len(of_groups) == len(of_dense) == 2 * 2 * 2 and of_groups.keys() == of_dense.keys()
    places = list(found.cells)
    for place, cell in of_groups.items():
        base = of_dense[place]
        assert cell.work["base"] == base.key and set(cell.upstream) == {cell.work["capture"], base.key}
        assert places.index(base.key) < places.index(cell.key)


def test_it_is_done_after_it_in_a_job_of_its_own(tmp_path: Path) -> None:
    found = plan(tmp_path, {"method": "grouping", "of": "grouping(of=dense)", "at": 4}, GROUPING, "dense", "atomic")
    jobs = jobs_of(list(found.cells.values()), 2, lambda cell: 1.0)
    kinds: dict[str, set[str]] = {}
    for job in jobs:
        kinds[job.id] = {found.cells[key].label for key in job.cells}
    for job in (job for job in jobs if job.kind == "fit"):
        labels = {found.cells[key].label.partition(" on ")[0] for key in job.cells}
        is_mixed = {label.removeprefix("fit ") for label in labels} & {"dense", "atomic"}
        assert not is_mixed or labels <= {"fit dense", "fit atomic"}
        bases = {found.cells[key].work["base"] for key in job.cells if "base" in found.cells[key].work}
        needed = {key for need in job.needs for other in jobs if other.id == need for key in other.cells}
        assert bases <= needed
    assert len({cell.group for cell in found.of_kind("fit")}) == 3 * 4  # a site's rows are read once for each depth


def test_a_change_of_the_base_changes_what_learns_from_it(tmp_path: Path) -> None:
    before, after = plan(tmp_path, GROUPING, "dense"), plan(tmp_path, GROUPING, "dense", dense=2)
    assert not {cell.key for cell in fits(before, "grouping").values()} & set(after.cells)
    other = plan(tmp_path, GROUPING, {"method": "dense", "k": 8})
    assert not {cell.key for cell in fits(before, "grouping").values()} & set(other.cells)


def test_what_learns_from_rows_alone_keeps_its_key(tmp_path: Path) -> None:
    assert set(plan(tmp_path, "dense", "atomic").cells) <= set(plan(tmp_path, GROUPING, "atomic", "dense").cells)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["atomic", GROUPING], "grouping(of=dense) learns from the fits of 'dense', which this suite lacks."),
        ([{"method": "grouping", "of": "atomik"}, "atomic"], "Did you mean 'atomic'"),
        ([{"method": "dense", "k": [1, 2]}, GROUPING], "of='dense' may be any of dense(k=1); dense(k=2). Write one"),
        ([{"method": "grouping", "of": "grouping"}], "grouping(of=grouping) -> grouping(of=grouping): none of them"),
        (
            [
                {"method": "grouping", "of": "grouping(of=grouping(of=b), at=5)"},
                {"method": "grouping", "of": "grouping(of=grouping(of=b), at=5)", "at": 5},
            ],
            "which this suite lacks",
        ),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path: Path, methods: list[Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, *methods)
    assert message in str(caught.value)


def test_the_whole_label_chooses_one_of_several_and_a_list_is_a_grid(tmp_path: Path) -> None:
    dense = {"method": "dense", "k": [1, 2]}
    one = plan(tmp_path, dense, {"method": "grouping", "of": "dense(k=2)"})
    base = {one.cells[cell.work["base"]].label.split()[1] for cell in fits(one, "grouping").values()}
    assert base == {"dense(k=2)"}
    both = plan(tmp_path, dense, {"method": "grouping", "of": ["dense(k=1)", "dense(k=2)"]})
    assert len([cell for cell in both.of_kind("fit") if "base" in cell.work]) == 2 * 8
