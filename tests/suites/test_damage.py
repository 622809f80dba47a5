"""Damaged results of a real suite: readers name them and show none of their numbers, a run makes them again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.planning.config import load_resolved
from harness.planning.plan import Plan, build_plan
from harness.storage.store import Store
from tests.support.result_tables import Finished, assert_equal_tables, read_tables, states

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def results(smoke_run: Finished, harness_cli: Cli, tmp_path: Path) -> Path:
    smoke_run.copy_to(tmp_path)
    return tmp_path / "results" / "smoke"


def _plan(results: Path) -> tuple[Plan, Store]:
    return build_plan(load_resolved(results / "suite.yaml")[0]), Store.of(results)


def _change(path: Path, old: bytes, new: bytes) -> None:
    """Change a file as a failing disk does: size and times stay."""
    before, content = path.stat(), path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_damaged_records_and_verdicts_are_named_and_made_again(harness_cli: Cli, results: Path) -> None:
    tables = read_tables(results)
    plan, store = _plan(results)
    evaluation, similarity = (plan.of_kind(kind)[0] for kind in ("evaluation", "similarity"))
    scoring = next(cell for cell in plan.of_kind("scoring") if store.verdicts_path(cell.key).exists())
    _change(store.record_path(evaluation.key), b'"value": 0.', b'"value": 7.')
    _change(store.record_path(similarity.key), b'"status"', b'"stutus"')
    verdicts = store.verdicts_path(scoring.key)
    _change(verdicts, verdicts.read_bytes()[100:110], bytes(10))
    damaged = {evaluation.label, similarity.label}

    code, output, errors = harness_cli("status", "suite=smoke", "--json")
    assert code == 0 and {label for label, state in states(output).items() if state == "to do"} == damaged
    assert errors.count("is damaged") == 2
    code, output, errors = harness_cli("leaderboard", "suite=smoke")
    assert code == 0 and "2 to do" in output and errors.count("is damaged: its checksum differs. Its cell") == 2
    code, _, errors = harness_cli("report", "suite=smoke")
    assert code == 2 and f"{verdicts} is damaged" in errors.replace("\n", " ") and "harness run" in errors

    code, _, errors = harness_cli("run", "suite=smoke")
    assert code == 0 and "Traceback" not in errors
    for name in (store.record_path(evaluation.key).name, store.record_path(similarity.key).name, verdicts.name):
        assert f"{name} is damaged" in errors.replace("\n", "") and list(results.rglob(f"{name}.damaged-*"))
    assert_equal_tables(read_tables(results), tables)
    code, output, errors = harness_cli("status", "suite=smoke", "--json")
    assert set(states(output).values()) == {"done", "skipped"} and "damaged" not in errors


def test_what_was_made_from_a_fit_that_is_another_one_now_is_made_again_by_one_run(
    harness_cli: Cli, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(results.parent / "own"))
    few = ["models.0.sites=[resid_post.1]", "similarities=[]", "methods=[{method: topk_sae, n_latents: 64, k: 8}]"]
    few += ["evaluations=[reconstruction]"]
    assert harness_cli("run", "suite=smoke", *few)[0] == 0
    plan, store = _plan(results)
    (fit,) = plan.of_kind("fit")
    before = {key: store.record(key) for key in plan.cells}
    manifest = store.manifest("fit", fit.key)
    assert manifest is not None
    # What another machine may leave: other bytes, and a manifest that fits them.
    description = store.artefact("fit", fit.key) / "decomposition.json"
    work = store.work_folder("fit", fit.key)
    store.artefact("fit", fit.key).rename(work)
    (work / description.name).write_text(json.dumps(json.loads((work / description.name).read_text()), indent=1))
    (work / "manifest.json").unlink()
    store.commit("fit", fit.key, {name: value for name, value in manifest.items() if name != "files"})

    stale = {key for key, cell in plan.cells.items() if fit.key in cell.upstream}
    assert {cell.kind for cell in map(plan.cells.get, stale) if cell} >= {"evaluation", "latents", "scoring"}
    _, output, errors = harness_cli("status", "suite=smoke", "--json")
    assert {label for label, state in states(output).items() if state == "to do"} == {
        plan.cells[key].label for key in stale
    }
    assert f"was made from fits/{fit.key}" in errors.replace("\n", "")
    code, _, errors = harness_cli("run", "suite=smoke", *few)
    assert code == 0, errors
    after = {key: store.record(key) for key in plan.cells}
    assert {key for key in plan.cells if after[key] != before[key]} == stale and None not in after.values()
    _assert_rot_is_found_where_it_is_read(harness_cli, results, few)


def _assert_rot_is_found_where_it_is_read(harness_cli: Cli, results: Path, few: list[str]) -> None:
    """In cards by the report, and in the fit by the worker that makes these again; one run makes both."""
    plan, store = _plan(results)
    (fit,), (latents,) = plan.of_kind("fit"), plan.of_kind("latents")
    rotten = (
        store.artefact("fit", fit.key) / "decomposition.json",
        store.artefact("latents", latents.key) / "cards.json",
    )
    for path in rotten:
        _change(path, b"{", b"[")
    assert "made again" not in harness_cli("run", "suite=smoke", *few)[2]  # nothing is to do, so nothing is used
    shutil.rmtree(results / "report")
    code, _, errors = harness_cli("run", "suite=smoke", *few)
    assert code == 0, errors
    told = [line for line in errors.splitlines() if "is made again" in line]
    assert [sum(str(path) in line for line in told) for path in rotten] == [1, 1] and len(told) == 2
    assert (results / "report" / "index.html").exists() and harness_cli("verify", "suite=smoke")[0] == 0


def test_records_of_the_version_before_stay_done_and_a_run_seals_them(harness_cli: Cli, results: Path) -> None:
    plan, store = _plan(results)
    before = {}
    for path in results.glob("cells/*/*.json"):
        record = store.record(path.stem)
        assert record is not None
        before[path.stem] = vars(record) | {"made_from": {}}
        earlier = {name: value for name, value in vars(record).items() if name not in ("made_from", "verdicts")}
        path.write_text(json.dumps(earlier))
    code, output, errors = harness_cli("status", "suite=smoke", "--json")
    assert code == 0 and set(states(output).values()) == {"done", "skipped"} and "damaged" not in errors
    code, _, errors = harness_cli("run", "suite=smoke")
    assert code == 0 and "damaged" not in errors
    assert not any(store.is_of_earlier_version(key) for key in plan.cells)
    after = {key: store.record(key) for key in before}
    assert {key: vars(record) for key, record in after.items() if record} == before
