"""Files that are made again only if they, or what they were made from, have changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.planning.plan import Plan
from harness.storage.made import Made, source_of
from harness.storage.records import Record
from harness.storage.store import Store
from tests.support.toy_suites import plan_of, raw_suite


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


@pytest.fixture
def plan(tmp_path: Path, store: Store) -> Plan:
    raw = raw_suite(tmp_path, tokens={"fit": 1000, "evaluation": 200, "interp": 300}, scorers=["lookup"], sites=[])
    plan = plan_of(raw | {"sites": ["resid_post.1"]})
    for key in plan.cells:
        store.write_record(key, Record("done"))
    return plan


def test_files_are_current_until_one_is_touched(tmp_path: Path) -> None:
    made, page = Made(tmp_path), tmp_path / "report" / "latents" / "0.js"
    assert not made.is_current("report", "a") and not made.is_untouched("report")
    page.parent.mkdir(parents=True)
    page.write_text("cards")
    made.remember("report", "a", ["report", "absent.csv"])
    made.remember("tables", "b", [])
    assert made.is_current("report", "a") and not made.is_current("report", "b") and made.is_current("tables", "b")
    page.with_name("more.js").write_text("added")
    assert not made.is_current("report", "a") and made.is_current("tables", "b")
    page.with_name("more.js").unlink()
    assert made.is_current("report", "a")
    was = page.stat()
    page.write_text("carts")  # rot
    os.utime(page, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert not made.is_untouched("report")
    page.write_text("cards")
    os.utime(page, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert made.is_current("report", "a")
    page.write_text("others")
    assert not made.is_untouched("report")


@pytest.mark.parametrize("kind", ["evaluation", "scoring", "latents"])
def test_another_record_is_another_source(plan: Plan, store: Store, kind: str) -> None:
    before = source_of(plan, store)
    assert source_of(plan, Store(store.results, store.cache)) == before
    store.write_record(plan.of_kind(kind)[0].key, Record("done"))  # as it was, but made anew
    assert source_of(plan, store) != before


def test_what_results_show_besides_records_is_part_of_their_source(plan: Plan, store: Store) -> None:
    found = [source_of(plan, store)]
    latents, scored = plan.of_kind("latents")[0].key, plan.of_kind("scoring")[0].key
    store.work_folder("latents", latents).mkdir(parents=True)
    store.commit("latents", latents, {})
    found.append(source_of(plan, store))
    store.record_path(scored).with_suffix(".parquet").write_bytes(b"verdicts")
    found.append(source_of(plan, store))
    config = replace(plan.suite.config, name="another")
    found.append(source_of(replace(plan, suite=replace(plan.suite, config=config)), store))
    assert len(set(found)) == len(found)
