"""Captures in the store: which rows, how many, and the same ones whatever happened on the way."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.capturing import pass_shards, texts
from harness.capturing.chunks import Range, chunk_windows
from harness.capturing.draws import drawn_place
from harness.capturing.masking import masked_rows
from harness.capturing.own_rows import places_in_split
from harness.capturing.splits import in_split
from harness.planning.cells import Cell
from harness.plugins.models.hf import HF
from harness.registry.plugin_manager import Catalog, Registered, load_catalog
from harness.running.session import Session
from harness.stages import capture, evaluation
from harness.storage.activation_store import StoredActivations
from harness.storage.store import Store, require

SITES = ("resid_post.0", "mlp_out.1")
MODEL = {"name": "random_weights", "params": {"n_layers": 2, "width": 16, "n_heads": 2, "device": "cpu"}}
CORPUS = {"name": "synthetic", "params": {"n_documents": 60}}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "models"))
    monkeypatch.setattr(texts, "chunk_windows", lambda n_tokens, context: 8)


def _session(tmp_path: Path, name: str) -> Session:
    store = Store(tmp_path / name / "results", tmp_path / name / "cache")
    return Session(store, load_catalog(), torch.device("cpu"), "logs/x.txt", emit=lambda event: None)


def _cell(site: str, split: str = "fit", tokens: int = 1000, **work: Any) -> Cell:
    documents = {"evaluation": [0, 0.3], "fit": [0.3, 1]}[split]
    work = {"model": MODEL, "corpus": CORPUS, "max_disk_gb": 1.0, "split": split, "documents": documents} | work
    work |= {"tokens": tokens, "context": 32, "site": site}
    return Cell("capture", f"{site}-{split}", f"capture {site}", "group", work, {"model": "m", "site": site})


def _capture(session: Session, *cells: Cell) -> list[StoredActivations]:
    capture.run(list(cells), session)
    return [StoredActivations(*require(session.store, "capture", cell.key)) for cell in cells]


def _all(stored: StoredActivations) -> torch.Tensor:
    return stored.take(torch.arange(stored.n_rows))


def _assert_equal(one: StoredActivations, other: StoredActivations) -> None:
    assert torch.equal(_all(one), _all(other))
    pd.testing.assert_frame_equal(one.rows, other.rows)
    # What was measured differs, what the numbers rest on does not.
    names = ("n_rows", "width", "n_layers", "tokenizer_hash", "task")
    assert {name: one.manifest[name] for name in names} == {name: other.manifest[name] for name in names}
    assert one.manifest["files"].keys() == other.manifest["files"].keys()


def test_sites_of_one_pass_may_differ_in_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each manifest says the width of its own rows, also where a pass goes on that was broken off."""
    cells = [_cell(site) for site in ("resid_post.0", "mlp_act.1", "attn_z.0")]
    session = _session(tmp_path, "one")
    whole = _capture(session, *cells)
    assert [stored.width for stored in whole] == [16, 64, 16] == [_all(stored).shape[1] for stored in whole]
    assert [stored.manifest["width"] for stored in whole] == [16, 64, 16]
    assert all("widths" not in stored.manifest for stored in whole)

    broken = _session(tmp_path, "other")
    activations, n_runs = HF.activations, 0

    def stop(self: HF, *args: Any) -> Any:
        nonlocal n_runs
        n_runs += 1
        if n_runs == 3:
            raise KeyboardInterrupt
        return activations(self, *args)

    monkeypatch.setattr(HF, "activations", stop)
    with pytest.raises(KeyboardInterrupt):
        capture.run(cells, broken)
    monkeypatch.setattr(HF, "activations", activations)
    for one, other in zip(whole, _capture(broken, *cells), strict=True):
        _assert_equal(one, other)


def test_the_disk_that_wide_sites_take_is_known_before_any_work(tmp_path: Path) -> None:
    """1,000 rows of 16 and of 64 numbers take 320,000 bytes."""
    cells = [_cell(site, max_disk_gb=0.00031) for site in ("resid_post.0", "mlp_act.1")]
    with pytest.raises(harness.ConfigError, match=r"needs 0\.00032 GB"):
        capture.run(cells, _session(tmp_path, "small"))


def test_as_many_rows_as_tokens_asked_for_from_documents_of_one_split_only(tmp_path: Path) -> None:
    session = _session(tmp_path, "a")
    rows = {}
    for split, tokens in (("fit", 3001), ("evaluation", 777)):
        first, second = _capture(session, *(_cell(site, split, tokens) for site in SITES))
        assert first.n_rows == second.n_rows == len(first.rows) == len(_all(first)) == tokens
        pd.testing.assert_frame_equal(first.rows, second.rows)
        assert not first.rows.duplicated(["document", "window", "position"]).any()
        assert (first.rows["position"] > 0).all() and not first.rows["special"].any()
        rows[split] = first.rows
    assert not set(rows["fit"]["document"]) & set(rows["evaluation"]["document"])


def test_rows_are_what_the_model_gives_for_the_documents_in_order(tmp_path: Path) -> None:
    (stored,) = _capture(_session(tmp_path, "a"), _cell(SITES[0], tokens=500))
    catalog = load_catalog()
    texts = {
        document.id: document.text
        for document in catalog.create("corpus", CORPUS["name"], CORPUS["params"]).documents()
        if in_split(document.id, [0.3, 1])
    }
    whole = harness.capture(
        catalog.create("model", MODEL["name"], MODEL["params"]), list(texts.values()), [SITES[0]], 32
    )
    torch.testing.assert_close(_all(stored), whole.x[SITES[0]][:500], rtol=1e-5, atol=1e-5)
    ids = list(texts)
    assert stored.rows["document"].tolist() == [ids[i] for i in whole.rows["document"][:500]]


def test_splits_are_fair_and_decided_by_the_document_alone() -> None:
    ids = [f"{i:016x}" for i in range(4000)]
    evaluation = [name for name in ids if in_split(name, [0, 0.2])]
    assert abs(len(evaluation) - 800) < 5 * (4000 * 0.2 * 0.8) ** 0.5
    edges = [0, 0.1, 0.2, 1]
    for name in ids:
        assert sum(in_split(name, share) for share in pairwise(edges)) == 1
    # Golden: where this changes, documents change sides; raise STAGE_VERSIONS["capture"].
    assert [i for i, name in enumerate(ids[:8]) if in_split(name, [0, 0.5])] == [2, 4]


def test_a_seed_draws_documents_of_its_own_from_all_of_the_split(tmp_path: Path) -> None:
    """Not those that the corpus begins with: the rows of a draw are the same whatever the site, and in order."""
    session = _session(tmp_path, "a")
    corpus = {"name": "synthetic", "params": {"n_documents": 200}}
    cells = [_cell(site, tokens=600, corpus=corpus, draw=draw) for draw in (0, 1) for site in SITES]
    for cell in cells:
        object.__setattr__(cell, "key", f"{cell.key}-{cell.work['draw']}")
    rows = [stored.rows for draw in (cells[:2], cells[2:]) for stored in _capture(session, *draw)]
    pd.testing.assert_frame_equal(rows[0], rows[1])
    drawn = [table["document"].unique().tolist() for table in rows]
    documents = load_catalog().create("corpus", "synthetic", corpus["params"]).documents()
    split = [document.id for document in documents if in_split(document.id, [0.3, 1])]
    for ids, seed in ((drawn[0], 0), (drawn[2], 1)):
        assert ids == sorted(split, key=lambda name, seed=seed: drawn_place(name, seed))[: len(ids)]
        assert 1 < len(ids) < len(split) / 4
    assert len(set(drawn[0]) & set(drawn[2])) < len(drawn[0]) / 2


def test_a_seed_draws_from_stored_rows_too() -> None:
    """Document by document; the rows of each stay in their order."""
    names = pd.Series([f"{i // 3}" for i in range(300)])
    whole = places_in_split(names, {"documents": [0.3, 1]})
    drawn = places_in_split(names, {"documents": [0.3, 1], "draw": 0})
    assert sorted(drawn) == whole.tolist() == [i for i in range(300) if in_split(names[i], [0.3, 1])]
    documents = names.iloc[drawn].drop_duplicates().tolist()
    assert documents == sorted(documents, key=lambda name: drawn_place(name, 0)) != sorted(documents)
    assert drawn.reshape(-1, 3).tolist() == [[int(name) * 3 + i for i in range(3)] for name in documents]


def test_draws_that_have_much_in_common_are_warned_about(tmp_path: Path) -> None:
    session, said = _session(tmp_path, "a"), list[str]()
    session.warn = said.append  # type: ignore[method-assign]
    _capture(session, _cell(SITES[0], tokens=5000, draw=0))
    assert len(said) == 1 and "were drawn. Other seeds have many of them too" in said[0]


class Interrupted(Exception):
    pass


def _interrupt(patch: pytest.MonkeyPatch, owner: Any, name: str, after: int) -> None:
    """Let a function be called some times, then no more."""
    function, n_calls = getattr(owner, name), [0]

    def interrupted(*arguments: Any) -> Any:
        if n_calls[0] == after:
            raise Interrupted
        n_calls[0] += 1
        return function(*arguments)

    patch.setattr(owner, name, interrupted)


@pytest.mark.parametrize(
    ("owner", "name", "after", "n_units_left"),
    [
        # 4 units of 2 sites are 8 shards; a unit counts if both sites have it.
        *((pass_shards, "write_shard", after, 4 - after // 2) for after in range(8)),
        (Store, "commit", 0, 0),
        (Store, "commit", 1, 0),  # the one site is there, the other's work folder is taken up
    ],
)
def test_a_capture_that_was_interrupted_equals_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int, n_units_left: int
) -> None:
    cells = [_cell(site, tokens=800) for site in SITES]
    unbroken = _capture(_session(tmp_path, "unbroken"), *cells)
    assert len([name for name in unbroken[0].manifest["files"] if name.startswith("shard")]) == 4

    session = _session(tmp_path, "broken")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        _interrupt(patch, owner, name, after)
        capture.run(cells, session)
    assert session.store.manifest("capture", cells[1].key) is None
    n_forward = _count_forward_passes(monkeypatch)
    for one, other in zip(_capture(session, *cells), unbroken, strict=True):
        _assert_equal(one, other)
    assert n_forward() == n_units_left  # a unit of 8 windows is one batch
    assert not [path for path in session.store.cache.rglob("*") if "partial" in path.name]


def _count_forward_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    calls, activations = [], HF.activations

    def counted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        return activations(self, *arguments)

    monkeypatch.setattr(HF, "activations", counted)
    return lambda: len(calls)


def test_no_unit_is_run_that_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_forward = _count_forward_passes(monkeypatch)
    session = _session(tmp_path, "a")
    _capture(session, _cell(SITES[0], tokens=100))
    assert n_forward() == 1
    _capture(session, _cell(SITES[0], tokens=100))  # from the store
    assert n_forward() == 1


def test_units_are_whole_batches_that_suit_the_pass() -> None:
    for n_tokens, context in ((1, 128), (30_000, 128), (10**6, 64), (10**9, 128)):
        windows = chunk_windows(n_tokens, context)
        assert windows % 16 == 0 and 16 <= windows <= 1024
        assert windows * context < max(n_tokens / 8, 17 * context)  # else more than an eighth were run in vain


def test_sites_captured_later_equal_those_captured_together(tmp_path: Path) -> None:
    cells = [_cell(site, tokens=600) for site in SITES]
    together, session = _capture(_session(tmp_path, "together"), *cells), _session(tmp_path, "apart")
    _capture(session, cells[0])
    before = session.store.artefact("capture", cells[0].key).stat().st_mtime_ns
    for one, other in zip(_capture(session, *cells), together, strict=True):
        _assert_equal(one, other)
    assert session.store.artefact("capture", cells[0].key).stat().st_mtime_ns == before


def test_a_site_that_the_model_has_not_got_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, cells = _session(tmp_path, "a"), [_cell(SITES[0], tokens=300), _cell(SITES[1], tokens=300)]
    create = session.create

    def create_lacking(kind: str, call: Any) -> Any:
        """A model of which only running it tells that it has no such site."""
        made = create(kind, call)
        if kind == "model":
            activations = made.activations

            def refuse(ids: Any, mask: Any, sites: Any) -> Any:
                if SITES[1] in sites:
                    raise harness.ConfigError(f"site {SITES[1]!r}: no one module")
                return activations(ids, mask, sites)

            made.activations = refuse
        return made

    with monkeypatch.context() as patch:
        patch.setattr(session, "create", create_lacking)
        capture.run(cells, session)
    kept, lost = (session.store.record(cell.key) for cell in cells)
    assert kept is not None and kept.status == "done"
    assert lost is not None and (lost.status, lost.error) == ("failed", f"site {SITES[1]!r}: no one module")
    (alone,) = _capture(_session(tmp_path, "b"), cells[0])
    _assert_equal(StoredActivations(*require(session.store, "capture", cells[0].key)), alone)


class Inert:
    n_layers, width, tokenizer_hash = 1, 8, "none"

    def __init__(self, config: object) -> None: ...


def test_a_model_with_neither_texts_nor_rows_is_told_what_it_lacks(tmp_path: Path) -> None:
    session = _session(tmp_path, "inert")
    spec = harness.Spec("model", "inert", 1, "of this test", Inert)
    catalog = Catalog()
    catalog.entries["model", "inert"] = Registered(spec, sys.modules[__name__], "here", "1")
    session = dataclasses.replace(session, catalog=catalog)
    with pytest.raises(harness.PluginError, match=r"Inert has neither windows\(\) and activations\(\) nor stored"):
        capture.run([_cell(SITES[0], model={"name": "inert", "params": {}})], session)


def test_a_corpus_that_ends_early_is_said_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (stored,) = _capture(_session(tmp_path, "a"), _cell(SITES[0], tokens=1_000_000))
    assert 0 < stored.n_rows == len(stored.rows) < 1_000_000
    assert f"the corpus ended after {stored.n_rows} of 1000000 tokens" in capfd.readouterr().out


def test_a_corpus_without_rows_is_an_error_and_no_artefact(tmp_path: Path) -> None:
    session, cell = _session(tmp_path, "a"), _cell(SITES[0], documents=[1, 1])
    with pytest.raises(harness.ConfigError, match="gave no rows for the fit split"):
        _capture(session, cell)
    assert session.store.manifest("capture", cell.key) is None


def test_what_does_not_fit_the_budget_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(harness.ConfigError, match=r"needs 0\.064 GB on disk, max_disk_gb is 0\.05\. Raise it"):
        _capture(_session(tmp_path, "a"), _cell(SITES[0], tokens=1_000_000, max_disk_gb=0.05))


def test_the_records_count_what_it_cost(tmp_path: Path) -> None:
    session, cells = _session(tmp_path, "a"), [_cell(site, tokens=600) for site in SITES]
    stored = _capture(session, *cells)
    records = [session.store.record(cell.key) for cell in cells]
    for record, site in zip(records, stored, strict=True):
        assert record is not None and record.status == "done"
        cost = {row["metric"]: row["value"] for row in record.rows}
        assert cost["capture_tokens"] == 600
        shards = [file["bytes"] for name, file in site.manifest["files"].items() if name.startswith("shard")]
        assert cost["capture_disk_bytes"] == sum(shards) > 600 * 16 * 4
    # The seconds of one pass are not counted once per site: estimates rest on them.
    assert records[0].seconds >= cost["capture_seconds"] > records[1].seconds  # type: ignore[union-attr,operator]


def test_what_others_have_captured_counts_as_what_it_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates rest on the seconds of records; whoever puts ranges together takes none."""
    passed, activations = [0], HF.activations

    def take_a_second(self: Any, *arguments: Any) -> Any:
        passed[0] += 1
        return activations(self, *arguments)

    monkeypatch.setattr(HF, "activations", take_a_second)
    monkeypatch.setattr(capture.time, "perf_counter", lambda: float(passed[0]))
    session, cells = _session(tmp_path, "a"), [_cell(site, tokens=600) for site in SITES]
    for number in range(2):
        capture.run_range(cells, session, Range(number, 2))
    capture.run(cells, dataclasses.replace(session, started=float(passed[0])))
    first, second = (session.store.record(cell.key) for cell in cells)
    assert first is not None and second is not None
    cost = {row["metric"]: row["value"] for row in first.rows}
    assert (first.seconds, second.seconds, cost["capture_seconds"]) == (passed[0], 0.0, passed[0]) and passed[0] >= 3


class TestUnstoredRows:
    """Captures that keep of their rows what they are of, their norms, and the mean of those that are not masked."""

    def cells(self, tokens: int = 800, **work: Any) -> list[Cell]:
        work = {"store_rows": False, "max_norm_multiple": 1.2, "max_held_gb": 1.0} | work
        return [_cell(site, tokens=tokens, **work) for site in SITES]

    def assert_all_is_kept_but_rows(self, unstored: list[StoredActivations], stored: list[StoredActivations]) -> None:
        for one, other in zip(unstored, stored, strict=True):
            assert not one.has_rows and other.has_rows
            pd.testing.assert_frame_equal(one.rows, other.rows)
            assert torch.equal(one.norms, other.norms) and one.starts.tolist() == other.starts.tolist()
            assert 0 < masked_rows(one, one, 1.2).sum() < 800
            assert torch.equal(evaluation._mean(one, 1.2), evaluation._mean(other, 1.2))
            n_bytes = sum(file["bytes"] for name, file in one.manifest["files"].items() if name.startswith("shard"))
            assert n_bytes < sum(file["bytes"] for file in other.manifest["files"].values()) - 800 * 16 * 4 + 200

    def test_all_is_kept_but_the_rows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stored = _capture(_session(tmp_path, "stored"), *(_cell(site, tokens=800) for site in SITES))
        self.assert_all_is_kept_but_rows(_capture(_session(tmp_path, "unstored"), *self.cells()), stored)

    @pytest.mark.parametrize("after", [1, 3, 6])
    def test_one_that_was_interrupted_takes_the_mean_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
    ) -> None:
        stored = _capture(_session(tmp_path, "stored"), *(_cell(site, tokens=800) for site in SITES))
        session = _session(tmp_path, "broken")
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            _interrupt(patch, pass_shards, "write_shard", after)
            capture.run(self.cells(), session)
        self.assert_all_is_kept_but_rows(_capture(session, *self.cells()), stored)

    def test_shards_of_the_other_sort_are_not_taken_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stored_cells = [_cell(site, tokens=800) for site in SITES]
        stored = _capture(_session(tmp_path, "stored"), *stored_cells)
        for name, first, then in (("a", self.cells(), stored_cells), ("b", stored_cells, self.cells())):
            session = _session(tmp_path, name)
            with monkeypatch.context() as patch, pytest.raises(Interrupted):
                _interrupt(patch, pass_shards, "write_shard", 5)
                capture.run(first, session)
            assert all(one.has_rows == (name == "a") for one in _capture(session, *then))
        self.assert_all_is_kept_but_rows(
            [StoredActivations(*require(session.store, "capture", cell.key)) for cell in self.cells()], stored
        )

    def test_rows_that_are_stored_are_used_and_others_are_captured_where_they_are_to_be(self, tmp_path: Path) -> None:
        session = _session(tmp_path, "a")
        stored_cells = [_cell(site, tokens=800) for site in SITES]
        for cells, has_rows in ((self.cells(), False), (stored_cells, True), (self.cells(), True)):
            assert [one.has_rows for one in _capture(session, *cells)] == [has_rows] * 2

    def test_a_mean_of_another_mask_is_of_no_use(self, tmp_path: Path) -> None:
        session = _session(tmp_path, "a")
        _capture(session, *self.cells())
        (one, _) = _capture(session, *self.cells(max_norm_multiple=2.0))
        assert one.manifest["task"]["max_norm_multiple"] == 2.0

    def test_it_fits_a_smaller_budget(self, tmp_path: Path) -> None:
        with pytest.raises(harness.ConfigError, match=r"needs 0\.058 GB on disk, max_disk_gb is 0\.05"):
            _capture(_session(tmp_path, "a"), *self.cells(1_000_000, max_disk_gb=0.05))


class TestStoredRows:
    def folder(self, tmp_path: Path) -> tuple[Path, torch.Tensor, pd.DataFrame]:
        folder = tmp_path / "rows"
        folder.mkdir()
        x = torch.randn(200, 4)
        x[::17] = float("nan")
        x[5] *= 1e4
        rows = pd.DataFrame({"document": [f"text{i // 10}" for i in range(200)]})
        np.save(folder / "resid_post.3.npy", x.numpy())
        rows.to_csv(folder / "rows.csv", index=False)
        return folder, x, rows

    def test_rows_with_nan_are_captured_and_masked_later(self, tmp_path: Path) -> None:
        folder, x, rows = self.folder(tmp_path)
        model = {"name": "stored", "params": {"path": str(folder)}}
        cells = [_cell("resid_post.3", split, 1000, model=model) for split in ("fit", "evaluation")]
        fit, evaluation = (_capture(_session(tmp_path, "a"), cell)[0] for cell in cells)
        assert not set(fit.rows["document"]) & set(evaluation.rows["document"])
        for stored in (fit, evaluation):
            wanted = x[torch.tensor(rows["document"].isin(stored.rows["document"]).to_numpy())]
            torch.testing.assert_close(_all(stored), wanted, rtol=0, atol=0, equal_nan=True)
            is_broken = ~torch.isfinite(wanted).all(dim=1) | (wanted.norm(dim=1) > 1000)
            assert torch.equal(masked_rows(stored, fit, 10.0), is_broken) and is_broken.any()
        assert fit.n_rows + evaluation.n_rows == 200


def test_a_site_captured_after_the_other_has_the_table_rows_of_both_captured_together(tmp_path: Path) -> None:
    """A run that was killed between two commits makes one site of the pass anew."""
    together, later = _session(tmp_path, "a"), _session(tmp_path, "b")
    cells = [_cell(site) for site in SITES]
    _capture(together, *cells)
    for cell in cells:
        _capture(later, cell)
    measured = ("capture_seconds", "capture_peak_memory_bytes")
    for cell in cells:
        rows = []
        for session in (together, later):
            record = session.store.record(cell.key)
            assert record is not None
            rows.append([row | ({"value": None} if row["metric"] in measured else {}) for row in record.rows])
        assert rows[0] == rows[1]
