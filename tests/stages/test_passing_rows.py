"""Fits from rows that are never stored: the results of fits from stored rows, and what the disk holds meanwhile."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from harness.fitting.checkpoints import Checkpoints
from harness.fitting.flow import Flow
from harness.planning.cells import Cell
from harness.planning.config import compose
from harness.planning.plan import Plan, build_plan
from harness.running.session import Session
from harness.stages import capture, evaluation, fit
from harness.storage.store import Store

STAGES = {"capture": capture, "fit": fit, "evaluation": evaluation}
SUITE = (
    "suite=smoke",
    "models=[{model: random_weights, n_layers: 2, width: 16, n_heads: 2, device: cpu, label: m}]",
    "models.0.sites=[resid_post.0, resid_post.1]",
    "methods=[mean, {method: pca, n_components: 8}, {method: itda, k: 4, max_atoms: 32, centre: true}, "
    "{method: topk_sae, n_latents: 32, k: 4, passes: [1, 3]}]",
    "tokens={fit: 9000, evaluation: 200, interp: 0}",
    "max_norm_multiple=1.2",
    "evaluations=[reconstruction]",
    "similarities=[]",
    "scorers=[]",
    "seeds=[0,1]",
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "models"))


def run(folder: Path, *words: str) -> tuple[Plan, Store]:
    """Do the cells of a suite, kind by kind and group by group."""
    suite, catalog = compose([*SUITE, *words])
    plan, store = build_plan(suite), Store(folder / "results", folder / "cache")
    session = Session(store, catalog, torch.device("cpu"), "logs/x.txt", emit=lambda event: None)
    todo = [cell for cell in plan.cells.values() if cell.kind in STAGES and store.record(cell.key) is None]
    for (kind, _), group in itertools.groupby(todo, lambda cell: (cell.kind, cell.group)):
        STAGES[kind].run(list(group), session)
    return plan, store


def numbers(plan: Plan, store: Store, cell: Cell) -> list[Any]:
    """The rows of a record, without what is measured of a machine."""
    record = store.record(cell.key)
    assert record is not None and record.status == "done", record
    return [row for row in record.rows if "seconds" not in row["metric"] and "bytes" not in row["metric"]]


def assert_equal(one: tuple[Plan, Store], other: tuple[Plan, Store]) -> None:
    assert list(one[0].cells) == list(other[0].cells)
    for key, cell in one[0].cells.items():
        if cell.kind not in STAGES:
            continue
        assert numbers(*one, cell) == numbers(*other, cell), cell.label
        if cell.kind == "fit":
            files = [store.artefact("fit", key) for _, store in (one, other)]
            names = [sorted(path.name for path in folder.iterdir()) for folder in files]
            assert names[0] == names[1]
            for name in names[0]:
                if name != "manifest.json":
                    assert (files[0] / name).read_bytes() == (files[1] / name).read_bytes(), (cell.label, name)


@pytest.mark.parametrize("words", [("shuffle_characters=null",), ("shuffle_characters=9000", "seeds=[0]")])
def test_learnt_is_what_stored_rows_teach_and_no_row_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    stored = run(tmp_path / "stored", *words)
    sizes: list[int] = []
    advance = Flow.advance

    def watched(self: Flow) -> None:
        advance(self)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "passing").rglob("*") if path.is_file()))

    monkeypatch.setattr(Flow, "advance", watched)
    passing = run(tmp_path / "passing", *words, "store_rows=false")
    assert_equal(stored, passing)
    n_row_bytes = 9000 * 16 * 4
    shards = list((tmp_path / "passing").rglob("shard-*"))
    of_fit = {cell.key for cell in passing[0].of_kind("capture") if cell.columns["split"] == "fit"}
    for path in shards:
        with safe_open(path, framework="pt") as shard:
            assert ("x" in shard.keys()) == (path.parent.name not in of_fit)  # noqa: SIM118  # not a dict
    # Identities and norms of two sites, rows for evaluation, checkpoints; of rows for fitting not even one site's.
    assert len(sizes) > 16 and max(sizes) < 2 * 9000 * 40 + n_row_bytes / 2
    left = [path.name for path in (tmp_path / "passing/cache/fits").iterdir() if path.name.startswith(".")]
    assert not [name for name in left if not name.endswith(".lock")]


def test_a_run_that_was_broken_off_ends_as_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("shuffle_characters=2000", "store_rows=false")
    unbroken = run(tmp_path / "unbroken", *words)
    monkeypatch.setattr(Checkpoints.__init__, "__defaults__", (0.0, float("inf")))
    advance, n_chunks = Flow.advance, [0]

    def counted(self: Flow) -> None:
        n_chunks[0] += 1
        if n_chunks[0] == stop_at:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(Flow, "advance", counted)
    for stop_at in (5, 15, 25, 0):  # while the mean is taken, in the first pass, in the second, never
        n_chunks[0] = 0
        if stop_at:
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "broken", *words)
        else:
            broken = run(tmp_path / "broken", *words)
    assert_equal(unbroken, broken)
    # Learners without checkpoints start over, and for them all chunks are read once more, but not for the mean.
    assert n_chunks[0] <= 3 * 10 + 1


def test_a_fit_that_comes_later_uses_the_rows_that_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "methods=[mean]")
    monkeypatch.setattr(Flow, "advance", lambda self: pytest.fail("rows were captured again"))
    run(tmp_path, "methods=[{method: pca, n_components: 8}]", "store_rows=false")


def test_masked_rows_of_one_site_cost_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = run(tmp_path, "methods=[mean]", "store_rows=false", "seeds=[0]")
    bad, good = plan.of_kind("fit")
    for cell in (bad, good):
        store.discard("fit", cell.key)
        store.record_path(cell.key).unlink()
    store.discard("capture", bad.work["capture"])
    run(tmp_path, "methods=[mean]", "store_rows=false", "seeds=[0]")
    records = [store.record(cell.key) for cell in (bad, good)]
    assert records[0] is None and records[1] is not None and records[1].status == "done"  # the run makes its rows again
