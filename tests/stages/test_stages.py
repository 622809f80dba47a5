"""Fits, evaluations and comparisons from the store: which rows they see, and what a bad plugin costs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.capturing.activations import Stream, TensorActivations
from harness.comparing.pairing import align
from harness.fitting.together import fit_together
from harness.planning.cells import Cell
from harness.registry.plugin_manager import Catalog, Registered
from harness.running.session import Session
from harness.stages import evaluation, fit, similarity
from harness.storage.activation_store import write_shard
from harness.storage.records import Record
from harness.storage.store import Store
from tests.support.parts import Offset, OrderSensitive, Stackable, rows_of_text

X = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
X[7], X[100, 2], X[200] = float("nan"), float("inf"), 1e5
MASKED = [7, 100, 200]
CPU = torch.device("cpu")


class Unsaveable(OrderSensitive):
    def finish(self) -> harness.Decomposition:
        decomposition = Offset(self.offset)
        decomposition.extra = object()  # type: ignore[attr-defined]
        return decomposition


class Atomic(OrderSensitive):
    def finish(self) -> harness.Decomposition:
        decomposition = Offset(self.offset)
        decomposition.atoms = self.seen[0].head(2)
        return decomposition


class Shown:
    """Gives back what it was shown."""

    def __init__(self, value: float | None = None, metric: str = "value") -> None:
        self.value, self.metric = value, metric

    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> Iterable[harness.TableRow]:
        if self.value is not None:
            return [harness.TableRow(self.metric, self.value, 1)]
        for _ in range(2):  # blocks can be walked again
            x, masked = (torch.cat(parts) for parts in zip(*context.blocks(), strict=True))
            assert torch.equal(x.nan_to_num(), X.nan_to_num())
        return [
            harness.TableRow("masked", float(masked.sum()), context.n_rows),
            harness.TableRow("first masked", float(masked.nonzero()[0]), context.n_rows),
            harness.TableRow("nothing", None, 0, reason="as asked"),
        ]


class OneByOne(Shown):
    """Gives its rows as a generator."""

    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> Iterator[harness.TableRow]:
        yield from super().evaluate(decomposition, context)


class SharedRows:
    """Similarity: the number of rows, if they are aligned."""

    symmetric, higher_is_more_similar, streams = True, True, False

    def __init__(self, config: object) -> None:
        pass

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> float:
        if not torch.equal(x, y):
            raise harness.Undefined("not the same rows")
        return float(len(x))


class Quits(SharedRows):
    """An evaluation and a similarity that call sys.exit."""

    def evaluate(self, decomposition: harness.Decomposition, context: harness.EvaluationContext) -> Any:
        sys.exit(4)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> float:
        sys.exit(4)


class FirstOverLast(SharedRows):
    """An asymmetric similarity."""

    symmetric = False

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> float:
        return float(x[0, 0] / y[-1, 0])


def _catalog() -> Catalog:
    factories: dict[tuple[str, str], Any] = {
        ("method", "good"): lambda config: OrderSensitive(2, 64),
        ("method", "one"): lambda config: Stackable(2, 64),
        ("method", "two"): lambda config: Stackable(2, 64),
        ("method", "unhashable"): lambda config: Stackable(2, 64, stack_key=[]),  # type: ignore[arg-type]
        ("method", "atomic"): lambda config: Atomic(1, 64),
        ("method", "unsaveable"): lambda config: Unsaveable(),
        ("method", "unmakeable"): lambda config: 1 / 0,
        ("evaluation", "shown"): lambda config: Shown(),
        ("evaluation", "nan_shown"): lambda config: Shown(float("nan")),
        ("evaluation", "inf_shown"): lambda config: Shown(float("inf")),
        ("evaluation", "one_by_one"): lambda config: OneByOne(2.0),
        ("evaluation", "needy"): lambda config: Shown(1.0),
        ("evaluation", "misnamed"): lambda config: Shown(1.0, "seeds"),
        ("similarity", "shared_rows"): SharedRows,
        ("similarity", "first_over_last"): FirstOverLast,
        ("evaluation", "quits"): Quits,
        ("similarity", "quits"): Quits,
    }
    catalog = Catalog()
    for (kind, name), factory in factories.items():
        fields = {"needs": ("dictionary", "model", "head")} if name == "needy" else {}
        spec = harness.Spec(kind, name, 1, "of this test", factory, **fields)
        catalog.entries[kind, name] = Registered(spec, sys.modules[__name__], "here", "1")
    return catalog


@pytest.fixture
def session(tmp_path: Path) -> Session:
    store = Store(tmp_path / "results", tmp_path / "cache")
    in_order = torch.arange(300)
    for key, order, factor in (("rows", in_order, 1), ("shuffled", torch.randperm(300), 1), ("doubled", in_order, 2)):
        work = store.work_folder("capture", key)
        work.mkdir(parents=True)
        rows = rows_of_text(300).iloc[order.numpy()].reset_index(drop=True)
        write_shard(work, 0, factor * X[order], rows)
        store.commit("capture", key, {"n_rows": 300, "width": 4, "tokenizer_hash": key})
    return Session(store, _catalog(), CPU, "logs/x.txt", emit=lambda event: None)


def _fit_cell(name: str, seed: int = 3) -> Cell:
    work = {"method": {"name": name, "params": {}}, "capture": "rows", "seed": seed, "max_norm_multiple": 10.0}
    return Cell("fit", f"fit-{name}" + f"-{seed}" * (seed != 3), f"fit {name}", "g", work, {})


def _record(session: Session, cell: Cell) -> Record:
    record = session.store.record(cell.key)
    assert record is not None
    return record


def test_learners_see_the_rows_that_are_not_masked(session: Session, capfd: pytest.CaptureFixture[str]) -> None:
    cells = {name: _fit_cell(name) for name in ("good", "atomic", "unsaveable", "unmakeable")}
    fit.run(list(cells.values()), session)
    kept = torch.tensor([i for i in range(300) if i not in MASKED])
    stream = Stream(TensorActivations(X, rows_of_text(300)), kept, seed=3)
    wanted = fit_together({"a": OrderSensitive(2, 64)}, stream, CPU)["a"].decomposition
    found = harness.load(session.store.artefact("fit", "fit-good"))
    assert torch.equal(found.offset, wanted.offset) and found.tokenizer_hash == "rows"  # type: ignore[attr-defined,union-attr]

    candidates = harness.load(session.store.artefact("fit", "fit-atomic")).candidates
    wanted_rows = rows_of_text(300).iloc[kept.numpy()].reset_index(drop=True)
    pd.testing.assert_frame_equal(candidates, wanted_rows[list(candidates.columns)])  # type: ignore[union-attr,arg-type]

    cost = {row["metric"]: row["value"] for row in _record(session, cells["good"]).rows}
    assert (cost["tokens_seen"], cost["tokens_distinct"], cost["parameters"]) == (2 * 297, 297, 4)
    for name, error in (("unsaveable", "Offset.extra is a object"), ("unmakeable", "division by zero")):
        record = _record(session, cells[name])
        assert record.status == "failed" and error in str(record.error)
        assert session.store.manifest("fit", f"fit-{name}") is None
    assert "ZeroDivisionError" in capfd.readouterr().out  # the traceback is in the log


def test_the_cost_of_a_stack_says_how_many_share_it(session: Session) -> None:
    cells = [_fit_cell(name) for name in ("good", "one", "two")]
    fit.run(cells, session)
    costs = [{row["metric"]: row["value"] for row in _record(session, cell).rows} for cell in cells]
    assert [one.get("stacked_learners") for one in costs] == [None, 2, 2]
    assert costs[1]["state_bytes"] == costs[2]["state_bytes"] > 0


def test_learners_of_several_seeds_learn_what_each_would_in_a_job_of_its_own(session: Session) -> None:
    cells = [_fit_cell(name, seed) for name in ("good", "one", "two") for seed in (3, 4)]
    fit.run(cells, session)
    shares = [{row["metric"]: row["value"] for row in _record(session, cell).rows} for cell in cells]
    assert [share.get("stacked_learners") for share in shares] == [None, None, 4, 4, 4, 4]
    fitted = [harness.load(session.store.artefact("fit", cell.key)) for cell in cells]
    for cell, decomposition in zip(cells, fitted, strict=True):
        session.store.discard("fit", cell.key)
        fit.run([cell], session)
        alone = harness.load(session.store.artefact("fit", cell.key))
        assert isinstance(alone, Offset) and isinstance(decomposition, Offset)
        assert torch.equal(alone.offset, decomposition.offset)
    assert not torch.equal(fitted[0].offset, fitted[1].offset)  # type: ignore[attr-defined]


def test_many_fits_of_a_site_do_not_run_out_of_files(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fit that is made is locked; seeds that have nothing to do with each other are made one after the other."""
    locked: list[int] = []
    lock = Store.lock

    @contextmanager
    def counting(self: Store, kind: str, key: str, *_: object) -> Iterator[None]:
        with lock(self, kind, key):
            locked.append(1)
            yield
        locked.append(-1)

    monkeypatch.setattr(Store, "lock", counting)
    cells = [_fit_cell("good", seed) for seed in range(5)]
    fit.run(cells, session)
    assert locked == [1, -1] * 5
    fit.run(cells, session)
    assert len(locked) == 10  # what is made needs no lock


def test_a_fit_that_another_run_has_made_meanwhile_is_not_made_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, and looked for again once the lock is had."""
    cell, lock, n_fitted = _fit_cell("good"), Store.lock, []

    @contextmanager
    def after_another(self: Store, kind: str, key: str, *_: object) -> Iterator[None]:
        monkeypatch.setattr(Store, "lock", lock)
        fit.run([cell], session)
        with lock(self, kind, key):
            yield

    monkeypatch.setattr(Store, "lock", after_another)
    monkeypatch.setattr(
        fit, "fit_together", lambda *given, **named: n_fitted.append(1) or fit_together(*given, **named)
    )
    fit.run([cell], session)
    assert len(n_fitted) == 1 and _record(session, cell).status == "done"


def test_a_learner_whose_stack_key_is_of_no_use_fails_alone(session: Session) -> None:
    cells = [_fit_cell(name) for name in ("good", "unhashable", "one")]
    fit.run(cells, session)
    assert [_record(session, cell).status for cell in cells] == ["done", "failed", "done"]


def test_a_fit_that_is_in_the_store_is_not_made_again(session: Session) -> None:
    fit.run([_fit_cell("good")], session)
    before = _record(session, _fit_cell("good"))
    session.catalog = Catalog()  # nothing could be made from this
    fit.run([_fit_cell("good")], session)
    assert _record(session, _fit_cell("good")).rows == before.rows


def test_evaluations_see_all_rows_and_which_are_masked(session: Session) -> None:
    fit.run([_fit_cell("good")], session)
    rows = {"capture": "rows", "fit_capture": "rows", "max_norm_multiple": 10.0, "fit": "fit-good"}
    cells = {
        name: Cell("evaluation", name, name, "g", {"evaluation": {"name": name, "params": {}}, **rows}, {})
        for name in ("shown", "nan_shown", "inf_shown")
    }
    evaluation.run(list(cells.values()), session)
    record = _record(session, cells["shown"])
    values = {row["metric"]: (row["table"], row["value"], row["reason"]) for row in record.rows}
    assert values["masked"] == ("shown", 3, None) and values["first masked"] == ("shown", 7, None)
    assert values["nothing"] == ("shown", None, "as asked")
    for name, value in (("nan_shown", "nan"), ("inf_shown", "inf")):
        record = _record(session, cells[name])
        assert (record.status, record.rows) == ("failed", [])
        assert record.error == f"evaluation {name}: value is {value}. Give None and a reason."


def test_an_evaluation_may_give_its_rows_one_by_one(session: Session) -> None:
    fit.run([_fit_cell("good")], session)
    work = {"evaluation": {"name": "one_by_one", "params": {}}, "fit": "fit-good"}
    work |= {"capture": "rows", "fit_capture": "rows", "max_norm_multiple": 10.0}
    cell = Cell("evaluation", "o", "o", "g", work, {"method": "good"})
    evaluation.run([cell], session)
    record = _record(session, cell)
    assert (record.status, [row["value"] for row in record.rows if row["metric"] == "value"]) == ("done", [2.0])


@pytest.mark.parametrize("lenient", "ab")
def test_comparisons_align_rows_and_leave_out_what_either_side_masks(session: Session, lenient: str) -> None:
    sides = {
        side: {"capture": capture, "fit_capture": "rows", "max_norm_multiple": 1e9 if side == lenient else 10.0}
        for side, capture in (("a", "rows"), ("b", "shuffled"))
    }
    work = {"similarity": {"name": "shared_rows", "params": {}}, **sides}
    cell = Cell("similarity", "s", "s", "g", work, {})
    similarity.run([cell], session)
    values = {row["metric"]: (row["value"], row["reason"]) for row in _record(session, cell).rows}
    assert values["similarity"] == (297.0, None)
    assert values["null_shuffled_rows"] == (None, "not the same rows")
    assert values["kept_share_a"] == values["kept_share_b"] == (0.99, None)


def test_an_evaluation_or_similarity_that_exits_costs_only_its_own_cell(session: Session) -> None:
    fit.run([_fit_cell("good")], session)
    rows = {"capture": "rows", "fit_capture": "rows", "max_norm_multiple": 10.0}
    for stage, kind, neighbour in ((evaluation, "evaluation", "shown"), (similarity, "similarity", "shared_rows")):
        work = {"fit": "fit-good", **rows} if kind == "evaluation" else {"a": rows, "b": rows}
        cells = [
            Cell(kind, f"{kind}-{name}", name, "g", {kind: {"name": name, "params": {}}, **work}, {"method": "good"})
            for name in ("quits", neighbour)
        ]
        stage.run(cells, session)
        failed, done = (_record(session, cell) for cell in cells)
        assert (failed.status, failed.error) == ("failed", "the plugin called sys.exit(4)")
        assert done.status == "done"


def test_an_asymmetric_metric_is_told_both_ways(session: Session) -> None:
    sides = {
        side: {"capture": capture, "fit_capture": capture, "max_norm_multiple": 10.0}
        for side, capture in (("a", "rows"), ("b", "doubled"))
    }
    work = {"similarity": {"name": "first_over_last", "params": {}}, **sides}
    cell = Cell("similarity", "s", "s", "g", work, {})
    similarity.run([cell], session)
    values = {row["metric"]: row["value"] for row in _record(session, cell).rows}
    kept = [i for i in range(300) if i not in MASKED]
    ratio = float(X[kept[0], 0] / X[kept[-1], 0])
    assert values["similarity"] == ratio / 2 and values["similarity_reversed"] == ratio * 2


def test_what_an_evaluation_needs_and_does_not_get_is_a_skipped_row(session: Session) -> None:
    fit.run([_fit_cell("good")], session)
    work = {"evaluation": {"name": "needy", "params": {}}, "fit": "fit-good"}
    work |= {"capture": "rows", "fit_capture": "rows", "max_norm_multiple": 10.0}
    cell = Cell("evaluation", "e", "e", "g", work, {"method": "good"})
    evaluation.run([cell], session)
    record = _record(session, cell)
    assert (record.status, record.error) == ("skipped", "needy needs dictionary, model, head, which good lacks")


def test_a_metric_that_is_called_like_a_column_costs_its_cell(session: Session) -> None:
    fit.run([_fit_cell("good")], session)
    work = {"evaluation": {"name": "misnamed", "params": {}}, "fit": "fit-good"}
    work |= {"capture": "rows", "fit_capture": "rows", "max_norm_multiple": 10.0}
    cell = Cell("evaluation", "m", "m", "g", work, {"method": "good"})
    evaluation.run([cell], session)
    assert "a metric is called 'seeds', as a column of tables is" in str(_record(session, cell).error)


sides = st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(0, 5)), max_size=12)


@given(sides, sides)
def test_rows_are_aligned_by_document_and_end_the_last_token_wins(one: Any, other: Any) -> None:
    tables = [
        pd.DataFrame({"document": [d for d, _ in side], "end": [e for _, e in side]}).astype(
            {"document": "str", "end": "Int64"}
        )
        for side in (one, other)
    ]
    last = [{key: place for place, key in enumerate(side) if key[1] is not None} for side in (one, other)]
    wanted = sorted((last[0][key], last[1][key]) for key in last[0].keys() & last[1].keys())
    found = align(*tables)
    assert list(zip(*(places.tolist() for places in found), strict=True)) == wanted
