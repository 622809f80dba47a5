"""Cells become jobs: what shares work stays together, what is urgent comes first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.capturing.chunks import Range
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.running.jobs import Job, jobs_of
from tests.support.toy_suites import plan_of, raw_suite


def _jobs(plan: Plan, n_workers: int, cells: Sequence[Cell] | None = None) -> list[Job]:
    todo = list(plan.cells.values()) if cells is None else list(cells)
    return jobs_of(todo, n_workers, lambda cell: 1.0, stacking={"stacking"})


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(raw_suite(tmp_path))


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8, 1000])
def test_every_cell_is_in_one_job_and_comes_after_what_it_needs(plan: Plan, n_workers: int) -> None:
    jobs = _jobs(plan, n_workers)
    keys = [key for job in jobs for key in job.cells]
    assert sorted(keys) == sorted(plan.cells)
    job_of = {key: job.id for job in jobs for key in job.cells}
    for place, job in enumerate(jobs):
        needed = {job_of[key] for cell in job.cells for key in plan.cells[cell].upstream}
        assert set(job.needs) == needed
        assert needed <= {earlier.id for earlier in jobs[:place]}
        assert {plan.cells[key].kind for key in job.cells} == {job.kind}


def test_one_worker_has_whole_groups(plan: Plan) -> None:
    groups: dict[tuple[str, str], set[str]] = {}
    for cell in plan.cells.values():
        groups.setdefault((cell.kind, cell.group), set()).add(cell.key)
    assert sorted(map(sorted, groups.values())) == sorted(sorted(job.cells) for job in _jobs(plan, 1))


def test_groups_are_cut_only_where_there_are_too_few(plan: Plan) -> None:
    """Two workers have four places to fit and to evaluate at: what the cells of each share is done once."""
    whole, two, four = (_jobs(plan, n_workers) for n_workers in (1, 2, 4))
    for kind in ("fit", "evaluation"):
        n_jobs = [sum(job.kind == kind for job in jobs) for jobs in (whole, two, four)]
        assert n_jobs == [4, 4, 8]


def test_many_workers_have_the_smallest_pieces(plan: Plan) -> None:
    """Single fits and evaluations; captures of one pass, and all metrics of one pair of sites, stay together."""
    jobs = _jobs(plan, 1000)
    sizes = {kind: {len(job.cells) for job in jobs if job.kind == kind} for kind in ("fit", "evaluation", "capture")}
    assert sizes["fit"] == sizes["evaluation"] == {1}
    assert sizes["capture"] == {2}  # both sites of a pass
    for job in jobs:
        if job.kind == "similarity":
            pairs = {str((plan.cells[key].work["a"], plan.cells[key].work["b"])) for key in job.cells}
            assert len(pairs) == 1


def test_learners_that_may_stack_stay_on_one_worker(tmp_path: Path) -> None:
    raw = raw_suite(tmp_path, methods=[{"method": "stacking", "k": [1, 2, 3]}, {"method": "dense", "k": [8, 9]}])
    plan = plan_of(raw)
    jobs = [job for job in _jobs(plan, 1000) if job.kind == "fit"]
    sizes = {plan.cells[job.cells[0]].columns["method"]: len(job.cells) for job in jobs}
    assert sizes == {"stacking": 3 * 2, "dense": 1}  # three k, two seeds


def _captures(tokens: Sequence[int], **work: Any) -> list[Cell]:
    work = {"corpus": {"name": "texts"}, "context": 128} | work
    return [
        Cell("capture", f"{n}-{site}", "", str(n), {**work, "tokens": n, "site": site}, {})
        for n in tokens
        for site in "ab"
    ]


def _in_ranges(cells: Sequence[Cell], n_workers: int, seconds: float) -> list[int]:
    """The number of ranges of each pass, if a token takes so many microseconds, which count for the first site."""
    jobs = jobs_of(cells, n_workers, lambda cell: cell.work["tokens"] * seconds * 1e-6 * (cell.work["site"] == "a"))
    wholes = [job for job in jobs if job.part is None]
    for whole in wholes:
        parts = [job for job in jobs if job.id in whole.needs]
        assert [job.part for job in parts] == [Range(i, len(parts)) for i in range(len(parts))]
        assert {job.cells for job in [whole, *parts]} == {whole.cells} and len({job.id for job in jobs}) == len(jobs)
    assert sum(len(job.needs) for job in wholes) == len(jobs) - len(wholes)
    return [len(job.needs) for job in sorted(wholes, key=lambda job: [cell.key for cell in cells].index(job.cells[0]))]


def test_long_captures_are_cut_into_ranges_that_other_workers_do() -> None:
    """Into more than one a worker, and none that is so short that it would mostly load the model."""
    one, several = _captures([1_000_000]), _captures([800_000, 100_000, 100_001])
    assert [_in_ranges(one, n, 1000.0) for n in (1, 2, 4, 1000)] == [[0], [4], [8], [16]]  # there are 16 chunks
    assert [_in_ranges(one, 2, seconds) for seconds in (30.0, 60.0, 90.0, 120.0)] == [[0], [2], [2], [4]]
    assert _in_ranges(several, 2, 1000.0) == [2, 0, 0]
    assert _in_ranges(several, 8, 1000.0) == [8, 2, 2]
    assert _in_ranges(_captures(range(1_000_000, 1_000_100)), 8, 1000.0) == [0] * 100  # enough for all as they are


@pytest.mark.parametrize("work", [{"store_rows": False}, {"corpus": None, "context": None}])
def test_rows_that_pass_once_or_are_there_already_are_not_cut(work: dict[str, Any]) -> None:
    assert _in_ranges(_captures([1_000_000], **work), 8, 1000.0) == [0]


def test_ranges_are_on_the_critical_path_beside_each_other() -> None:
    cells = _captures([1_000_000])[:1]
    cells.append(Cell("fit", "fit", "", "", {}, {"method": "dense"}, (cells[0].key,)))
    jobs = jobs_of(cells, 2, lambda cell: 60.0 if cell.kind == "capture" else 7.0)
    assert [(job.kind, job.part and job.part.number, job.seconds_to_end) for job in jobs] == [
        ("capture", 0, 37.0), ("capture", 1, 37.0), ("capture", None, 7.0), ("fit", None, 7.0)
    ]  # fmt: skip
    assert [Job.from_json(json.loads(json.dumps(asdict(job)))) for job in jobs] == jobs


@pytest.mark.parametrize("n_workers", [1, 2])
def test_plugin_files_have_jobs_of_their_own(plan: Plan, n_workers: int) -> None:
    files = {"dense": ("own.py",)}
    cells = [replace(cell, plugin_files=files.get(cell.columns.get("method", ""), ())) for cell in plan.cells.values()]
    jobs = jobs_of(cells, n_workers, lambda cell: 100.0 if cell.plugin_files else 1.0)
    of_cell = {cell.key: cell.plugin_files for cell in cells}
    assert all(of_cell[key] == job.plugin_files for job in jobs for key in job.cells)
    order = [job.plugin_files for job in jobs]
    assert set(order) == {(), ("own.py",)}
    if n_workers == 1:
        assert order == sorted(order)
    else:  # after the captures that they need, the longest chains come first
        of_fits = [job.plugin_files for job in jobs if job.kind == "fit"]
        assert of_fits == sorted(of_fits, reverse=True) and order[-1] == ()


def test_the_same_cells_make_the_same_jobs(plan: Plan) -> None:
    """Workers on other machines plan for themselves."""
    assert _jobs(plan, 4) == _jobs(plan, 4)
    assert {job.id for job in _jobs(plan, 4)} != {job.id for job in _jobs(plan, 1)}


def test_only_what_is_to_do_is_waited_for(plan: Plan) -> None:
    left = [cell for cell in plan.cells.values() if cell.kind not in ("capture", "fit")]
    assert all(not job.needs for job in _jobs(plan, 2, left) if job.kind == "evaluation")


def test_a_family_of_many_sites_is_no_single_job(tmp_path: Path) -> None:
    sites = [f"resid_post.{layer}" for layer in range(0, 60)]
    cells = [
        Cell("similarity", f"{i:08x}", str(i), "family", {"a": a, "b": b}, {})
        for i, (a, b) in enumerate((a, b) for a in sites for b in sites)
    ]
    jobs = _jobs(plan_of(raw_suite(tmp_path)), 1, cells)
    assert len(jobs) == 2 and max(len(job.cells) for job in jobs) <= 2_000
    assert [key for job in jobs for key in job.cells] == [cell.key for cell in cells]


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_a_job_counts_the_longest_chain_that_begins_with_it(seconds: list[float], random: object) -> None:
    """Against all paths of a random graph, walked one by one."""
    cells: list[Cell] = []
    for i in range(len(seconds)):
        upstream = tuple(cell.key for cell in cells if random.random() < 0.4)  # type: ignore[attr-defined]
        cells.append(Cell("evaluation", f"{i:08x}", str(i), str(i), {}, {}, upstream))
    own = dict(zip([cell.key for cell in cells], seconds, strict=True))
    later = {cell.key: [other.key for other in cells if cell.key in other.upstream] for cell in cells}

    def longest(key: str) -> float:
        return own[key] + max((longest(other) for other in later[key]), default=0.0)

    jobs = jobs_of(cells, 1, lambda cell: own[cell.key])
    for job in jobs:
        assert job.seconds_to_end == pytest.approx(longest(job.cells[0]))
    order = [job.seconds_to_end for job in jobs]
    assert order == sorted(order, reverse=True)
