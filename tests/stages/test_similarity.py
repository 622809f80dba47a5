"""All pairs of places in one reading: the same numbers as each pair by itself, and what a bad metric costs."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.planning.cells import Cell
from harness.registry.plugin_manager import Catalog, Registered, load_catalog
from harness.running.session import Session
from harness.stages import similarity
from harness.storage.activation_store import StoredActivations, write_shard
from harness.storage.records import Record
from harness.storage.store import Store

N_ROWS = 2500  # three blocks, the last one short
WIDTHS = {"a1": 5, "a2": 5, "a3": 5, "b1": 4, "b2": 4}
MASKED = {"a1": [], "a2": [7, 1030], "a3": [7], "b1": [*range(1100), 2000], "b2": []}
"""Rows left out: of b1 the whole first block."""
METRICS = {
    "cka": {"estimator": "debiased"},
    "svcca": {"variance": 0.9},
    "relative": {"anchors": 20, "centre": True, "n_seeds": 2},
    "relative_itda_paper": {},
    "mutual_knn": {},
    "rsa": {"n_rows": 300},  # all pairs of all rows are sorted in a second
    "procrustes": {},
}


def _ends(model: str) -> np.ndarray:
    """The tokens of model b are those of model a, but for some that one of the two does not have; b counts its own."""
    return np.array([i for i in range(N_ROWS + 60) if i % 50 != (7 if model == "a" else 33)][:N_ROWS])


def _rows(place: str) -> Tensor:
    ends = torch.from_numpy(_ends(place[0]))
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(N_ROWS + 60, 6, generator=generator)[ends]
    mixing = torch.Generator().manual_seed(sum(map(ord, place)))
    x = torch.tanh(text @ torch.randn(6, WIDTHS[place], generator=mixing)) + 2
    broken = MASKED[place]
    x[broken[::2]] *= 1e4
    x[broken[1::2]] = float("nan")
    return x


class Mean:
    """A metric that takes blocks: the mean of the products of first coordinates."""

    higher_is_more_similar, streams, symmetric = True, True, False
    range, invariant_to = (-math.inf, math.inf), frozenset()

    def __init__(self, config: object) -> None:
        pass

    def __call__(self, x: Tensor, y: Tensor) -> float:
        return float((x[:, 0] * y[:, -1]).double().mean())

    def merge(self, other: Mean) -> None:
        raise AssertionError("all blocks come to one instance")

    def reset(self) -> None:
        self.total, self.n = 0.0, 0

    def update(self, x: Tensor, y: Tensor) -> None:
        self.total += float((x[:, 0] * y[:, -1]).double().sum())
        self.n += len(x)
        x *= 0  # what it does to its rows is no matter of the others

    def compute(self) -> float:
        return self.total / self.n


class Failing(Mean):
    """Fails in its second block."""

    def update(self, x: Tensor, y: Tensor) -> None:
        super().update(x, y)
        if self.n > 1100:
            sys.exit(3)


class BadSums:
    def __init__(self, pairs: Any, same_rows: Any, read_again: Any) -> None:
        assert pairs and same_rows and read_again

    def update(self, rows: Any, masked: Any) -> None:
        raise RuntimeError("sums went wrong")


class OnBadSums(Mean):
    """Its statistics fail."""

    statistics = BadSums

    def compute_from(self, of_pair: object) -> float:
        return 1.0


class Products:
    """Σ x₁·y₁ of each pair; by `exactly` from another reading."""

    def __init__(self, pairs: Any, same_rows: Any, read_again: Any) -> None:
        self.read_again = read_again
        self.sums = dict.fromkeys(pairs, 0.0)

    def update(self, rows: Any, masked: Any) -> None:
        for x, y in self.sums:
            self.sums[x, y] += self._products(x, y, rows, masked)

    def pair(self, x: str, y: str, without_x: Tensor, without_y: Tensor) -> tuple[float, Any]:
        return self.sums[x, y], lambda: sum(self._products(x, y, *block) for block in self.read_again({x, y}))

    def _products(self, x: str, y: str, rows: Any, masked: Any) -> float:
        kept = ~(masked[x] | masked[y])
        return float((rows[x][kept, 0].double() * rows[y][kept, 0].double()).sum())


class SomeReadAgain(Mean):
    """Rounds; but where that gives an odd number, it reads the rows again."""

    statistics = Products
    symmetric = True

    def compute_from(self, of_pair: Any) -> Any:
        total, exactly = of_pair
        return exactly if round(total) % 2 else round(total)


class FailsLate(SomeReadAgain):
    def compute_from(self, of_pair: Any) -> Any:
        return lambda: sys.exit(4)


class OnlySaysThatItStreams:
    """No metric at all, but for what it says of itself."""

    higher_is_more_similar, range, symmetric, invariant_to, streams = True, (0.0, 1.0), True, frozenset(), True

    def __init__(self, config: object) -> None:
        pass

    def __call__(self, x: Tensor, y: Tensor) -> float:
        return 0.5


OWN = {
    "mean_product": Mean,
    "failing": Failing,
    "on_bad_sums": OnBadSums,
    "some_read_again": SomeReadAgain,
    "fails_late": FailsLate,
    "only_says_that_it_streams": OnlySaysThatItStreams,
}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    store = Store(tmp_path / "results", tmp_path / "cache")
    for place in WIDTHS:
        work = store.work_folder("capture", place)
        work.mkdir(parents=True)
        ends, count = _ends(place[0]), np.arange(N_ROWS)
        columns = {"document": ends // 100, "window": ends * 0, "position": count % 100, "end": ends}
        write_shard(work, 0, _rows(place), harness.make_rows(columns))
        store.commit("capture", place, {"n_rows": N_ROWS, "width": WIDTHS[place], "tokenizer_hash": place[0]})
    catalog = Catalog(dict(load_catalog().entries))
    for name, factory in OWN.items():
        spec = harness.Spec("similarity", name, 1, "of this test", factory)
        catalog.entries["similarity", name] = Registered(spec, sys.modules[__name__], "here", "1")
    return Session(store, catalog, torch.device("cpu"), "logs/x.txt", emit=lambda event: None)


def _side(place: str) -> dict[str, Any]:
    """`a1+a2` are both sites together."""
    if "+" in place:
        return {"sites": [_side(part) for part in place.split("+")]}
    return {"capture": place, "fit_capture": place, "max_norm_multiple": 10.0}


def _cell(metric: str, a: str, b: str) -> Cell:
    sides = {side: _side(place) for side, place in zip("ab", (a, b), strict=True)}
    work = {"similarity": {"name": metric, "params": METRICS.get(metric, {})}, **sides}
    return Cell("similarity", f"{metric} {a} {b}", "x", "g", work, {})


def _run(session: Session, cells: list[Cell]) -> dict[str, Record]:
    similarity.run(cells, session)
    records = {cell.key: session.store.record(cell.key) for cell in cells}
    assert None not in records.values()
    return records  # type: ignore[return-value]


def _pairs() -> list[tuple[str, str]]:
    return list(itertools.combinations(WIDTHS, 2))


def _shared(a: str, b: str) -> tuple[Tensor, Tensor, Tensor]:
    """(places of a, places of b, which of them neither masks), worked out from the ends alone."""
    place_of = [{end: i for i, end in enumerate(_ends(place[0]).tolist())} for place in (a, b)]
    both = sorted(place_of[0].keys() & place_of[1].keys())
    places = [torch.tensor([side[end] for end in both]) for side in place_of]
    masked = [{*MASKED[place]} for place in (a, b)]
    kept = [not (i in masked[0] or j in masked[1]) for i, j in zip(*(p.tolist() for p in places), strict=True)]
    return *places, torch.tensor(kept)


# Their products of large blocks are in float32, and blocks are cut otherwise here and there.
_TOLERANCE = {"cka": 2e-6, "svcca": 2e-6, "procrustes": 2e-6}


def _values(record: Record) -> dict[str, tuple[float, int]]:
    return {row["metric"]: (row["value"], row["n"]) for row in record.rows}


@pytest.mark.parametrize("metric", [*METRICS, "mean_product"])
def test_the_numbers_are_those_of_each_pair_by_itself(session: Session, metric: str) -> None:
    records = _run(session, [_cell(metric, a, b) for a, b in _pairs()])
    for a, b in _pairs():
        one, other, kept = _shared(a, b)
        x, y = _rows(a)[one[kept]], _rows(b)[other[kept]]
        assert 0 < len(x) < N_ROWS or not MASKED[a] + MASKED[b]
        found = _values(records[f"{metric} {a} {b}"])
        if metric == "mean_product":
            wanted = float((x[:, 0] * y[:, -1]).double().mean())
            assert found["similarity_reversed"][0] == pytest.approx(float((y[:, 0] * x[:, -1]).double().mean()))
        else:
            wanted = harness.create("similarity", metric, **METRICS[metric])(x, y)
        assert found["similarity"] == (pytest.approx(wanted, abs=_TOLERANCE.get(metric, 1e-9)), len(x)), (a, b)
        assert found["kept_share_a"] == found["kept_share_b"] == (len(x) / N_ROWS, len(x))


@pytest.mark.parametrize(
    ("metric", "params"),
    [*METRICS.items(), ("mean_product", {})],
)
def test_sites_taken_together_are_their_rows_side_by_side(
    session: Session, metric: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamed or at once; a row that one of the sites masks is in nothing."""
    monkeypatch.setitem(METRICS, metric, params)
    a, b = "a1+a2+a3", "b1+b2"
    records = _run(session, [_cell(metric, a, b), _cell(metric, "a1", "b2")])
    one, other, _ = _shared("a1", "b1")
    masked = [{i for place in side.split("+") for i in MASKED[place]} for side in (a, b)]
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    kept = torch.tensor([(i, j) for i, j in pairs if i not in masked[0] and j not in masked[1]])
    x, y = (torch.cat([_rows(place)[kept[:, i]] for place in side.split("+")], dim=1) for i, side in enumerate((a, b)))
    assert x.shape[1] == 15 and y.shape[1] == 8
    if metric == "mean_product":
        wanted = float((x[:, 0] * y[:, -1]).double().mean())
    else:
        wanted = harness.create("similarity", metric, **params)(x, y)
    found = _values(records[f"{metric} {a} {b}"])
    assert found["similarity"] == (pytest.approx(wanted, abs=_TOLERANCE.get(metric, 1e-9)), len(x))
    assert found["kept_share_a"] == (len(x) / N_ROWS, len(x))
    assert found["null_shuffled_rows"][0] != pytest.approx(wanted, abs=1e-3)
    assert records[f"{metric} a1 b2"].rows == _run(session, [_cell(metric, "a1", "b2")])[f"{metric} a1 b2"].rows


def test_sites_of_different_rows_are_not_taken_together(session: Session) -> None:
    (record,) = _run(session, [_cell("cka", "a1+b1", "b2")]).values()
    assert record.status == "failed" and "captured on different rows" in str(record.error)


@pytest.mark.parametrize("metric", METRICS)
def test_the_null_pairs_rows_at_random_and_leaves_out_what_either_masks(session: Session, metric: str) -> None:
    record = _run(session, [_cell(metric, a, b) for a, b in _pairs()])[f"{metric} a2 b1"]
    one, other, _ = _shared("a2", "b1")
    order = torch.randperm(len(one), generator=torch.Generator().manual_seed(0))
    pairs = zip(one.tolist(), other[order].tolist(), strict=True)
    kept = torch.tensor([(i, j) for i, j in pairs if i not in MASKED["a2"] and j not in MASKED["b1"]])
    x, y = _rows("a2")[kept[:, 0]], _rows("b1")[kept[:, 1]]
    wanted = harness.create("similarity", metric, **METRICS[metric])(x, y)
    assert _values(record)["null_shuffled_rows"] == (pytest.approx(wanted, abs=_TOLERANCE.get(metric, 1e-9)), len(x))


def _paired(a: str, b: str, count: int) -> list[tuple[Tensor, Tensor]]:
    """The rows of two places in the random pairings, worked out one row at a time."""
    one, other, kept = _shared(a, b)
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(count):
        order = torch.randperm(len(one), generator=generator).tolist()
        partners = []
        for i in kept.nonzero().flatten().tolist():
            partner = order[i]
            while not kept[partner]:
                partner = order[partner]
            partners.append(partner)
        found.append((_rows(a)[one[kept]], _rows(b)[other[partners]]))
    return found


@pytest.mark.parametrize("metric", ["cka", "procrustes", "relative", "mutual_knn", "mean_product"])
def test_a_value_is_set_beside_those_of_random_pairings(session: Session, metric: str) -> None:
    """All of the rows that neither side masks; whether or not the metric has a way of its own to pair them."""
    cell = _cell(metric, "a2", "b1")
    cell = dataclasses.replace(cell, work={**cell.work, "permutations": 19})
    before, record = (_run(session, [each])[each.key] for each in (_cell(metric, "a2", "b1"), cell))
    rows = {row["metric"]: row for row in record.rows}
    assert [row for row in record.rows if "permuted" not in row and row["metric"] in _values(before)] == before.rows
    pairs = _paired("a2", "b1", 19)
    if metric == "mean_product":
        wanted = [float((x[:, 0] * y[:, -1]).double().mean()) for x, y in pairs]
        of_reversed = [float((y[:, 0] * x[:, -1]).double().mean()) for x, y in pairs]
        assert rows["p_value_reversed"]["permuted"] == pytest.approx(of_reversed)
        assert rows["calibrated"]["value"] is None and "no value that is the most alike" in rows["calibrated"]["reason"]
    else:
        wanted = [harness.create("similarity", metric, **METRICS[metric])(x, y) for x, y in pairs]
        assert rows["calibrated"]["value"] > 0.01 and "p_value_reversed" not in rows
    assert rows["p_value"]["permuted"] == pytest.approx(wanted, abs=_TOLERANCE.get(metric, 1e-9))
    assert (rows["p_value"]["value"], rows["p_value"]["n"]) == (1 / 20, 19)
    assert (rows["null_quantile"]["value"] < rows["similarity"]["value"]) == (metric != "procrustes")


def test_no_pairing_of_what_has_no_value(session: Session) -> None:
    cell = _cell("svcca", "a1", "b2")
    cell = dataclasses.replace(cell, work={**cell.work, "permutations": 19, "b": {**_side("b2"), "capture": "few"}})
    work = session.store.work_folder("capture", "few")
    work.mkdir(parents=True)
    columns = {"document": [0] * 4, "window": [0] * 4, "position": range(4), "end": [0, 1, 2, 3]}
    write_shard(work, 0, torch.ones(4, 4), harness.make_rows(columns))
    session.store.commit("capture", "few", {"n_rows": 4, "width": 4, "tokenizer_hash": "b"})
    rows = {row["metric"]: row for row in _run(session, [cell])[cell.key].rows}
    assert rows["p_value"]["value"] is rows["calibrated"]["value"] is rows["similarity"]["value"] is None
    assert rows["p_value"]["reason"] == rows["similarity"]["reason"] == "the rows of y are constant"


def test_no_bit_of_a_value_depends_on_the_other_pairs(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on which are there, nor on their order, nor on how many are read together."""
    cells = [_cell(metric, a, b) for metric in [*METRICS, "mean_product"] for a, b in _pairs()[::2]]
    together = {key: record.rows for key, record in _run(session, cells).items()}
    for cell in cells[::7]:
        assert _run(session, [cell])[cell.key].rows == together[cell.key]
    assert {key: record.rows for key, record in _run(session, cells[::-1]).items()} == together
    whole = ("mutual_knn", "rsa")  # of which no sums are kept
    summed = [cell for cell in cells if cell.work["similarity"]["name"] not in whole]
    assert 0 < len(summed) < len(cells)
    for sums_bytes in (1000, 1):
        monkeypatch.setattr(similarity, "_SUMS_BYTES", sums_bytes)
        for key, record in _run(session, summed).items():
            assert record.rows == together[key]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many rows of each place have been read."""
    counts: Counter[str] = Counter()
    take = StoredActivations.take

    def counting(self: StoredActivations, index: Tensor) -> Tensor:
        counts[self.folder.name] += len(index)
        return take(self, index)

    monkeypatch.setattr(StoredActivations, "take", counting)
    return counts


FEW = 50
"""More than the rows that only one of two places masks."""


def test_rows_are_read_once_for_all_pairs_and_metrics(session: Session, taken: Counter[str]) -> None:
    names = ("cka", "svcca", "procrustes", "linear_regression", "mean_product")
    _run(session, [_cell(metric, a, b) for metric in names for a, b in (("a1", "a2"), ("a1", "a3"), ("a2", "a3"))])
    # Once in order, once shuffled (never the first place), and a few rows that only the other side masks.
    assert N_ROWS <= taken["a1"] < N_ROWS + FEW
    assert all(2 * N_ROWS <= taken[place] < 2 * N_ROWS + FEW for place in ("a2", "a3"))


def test_values_may_be_had_from_rows_that_are_read_again(session: Session) -> None:
    records = _run(session, [_cell("some_read_again", a, b) for a, b in _pairs()])
    n_read_again = 0
    for a, b in _pairs():
        one, other, kept = _shared(a, b)
        total = float((_rows(a)[one[kept], 0].double() * _rows(b)[other[kept], 0].double()).sum())
        found = _values(records[f"some_read_again {a} {b}"])["similarity"][0]
        n_read_again += round(total) % 2
        assert found == (pytest.approx(total, rel=1e-12) if round(total) % 2 else round(total))
    assert 0 < n_read_again < len(_pairs())


def _store_wide(session: Session) -> None:
    """`a4`, of which `a5` and `a7` are rotations, and `a6`: all wide enough for products in float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_ROWS, 64, generator=generator)
    x[:, 0] *= 100
    turned, too = (x @ torch.linalg.qr(torch.randn(64, 64, generator=generator))[0] for _ in range(2))
    other = torch.tanh(x) + torch.randn(N_ROWS, 64, generator=generator)
    columns = {"document": _ends("a") // 100, "window": _ends("a") * 0, "position": np.arange(N_ROWS) % 100}
    for place, values in {"a4": x, "a5": turned, "a6": other, "a7": too}.items():
        work = session.store.work_folder("capture", place)
        work.mkdir(parents=True)
        write_shard(work, 0, values, harness.make_rows({**columns, "end": _ends("a")}))
        session.store.commit("capture", place, {"n_rows": N_ROWS, "width": 64, "tokenizer_hash": "a"})


def test_a_rotated_copy_is_told_from_others_with_all_digits(session: Session) -> None:
    _store_wide(session)
    record = _run(session, [_cell("procrustes", "a4", "a5")])["procrustes a4 a5"]
    assert _values(record)["similarity"][0] < 2e-6


def test_pairs_in_doubt_are_read_once_more_together(session: Session, taken: Counter[str]) -> None:
    """Whichever metrics doubt, and nothing but the places of these pairs; no number depends on who else doubts."""
    _store_wide(session)
    both = ("cka", "procrustes")
    pairs = [("a4", "a5"), ("a4", "a6"), ("a5", "a6"), ("a4", "a7")]
    together = _run(session, [_cell(metric, *pair) for metric in both for pair in pairs])
    # In order; shuffled, but for a4, which is never the second; and again where there is doubt, but none of shuffled.
    readings = {place: taken[place] / N_ROWS for place in ("a4", "a5", "a6", "a7")}
    assert readings == {"a4": 2, "a5": 3, "a6": 2, "a7": 3}
    for metric in both:
        for pair in pairs:
            key = f"{metric} {pair[0]} {pair[1]}"
            assert _run(session, [_cell(metric, *pair)])[key].rows == together[key].rows


def test_what_fails_costs_its_own_cells(session: Session) -> None:
    names = ("failing", "on_bad_sums", "fails_late", "only_says_that_it_streams", "mean_product", "cka")
    records = _run(session, [_cell(metric, a, b) for metric in names for a, b in _pairs()[:3]])
    status = {key: (record.status, record.error) for key, record in records.items()}
    for a, b in _pairs()[:3]:
        assert status[f"failing {a} {b}"] == ("failed", "the plugin called sys.exit(3)")
        assert status[f"on_bad_sums {a} {b}"] == ("failed", "sums went wrong")
        assert status[f"fails_late {a} {b}"] == ("failed", "the plugin called sys.exit(4)")
        assert "lacks one of update" in str(status[f"only_says_that_it_streams {a} {b}"][1])
        assert status[f"mean_product {a} {b}"] == status[f"cka {a} {b}"] == ("done", None)


def test_places_that_share_no_rows(session: Session) -> None:
    work = session.store.work_folder("capture", "c1")
    work.mkdir(parents=True)
    columns = {"document": np.full(5, 999), "window": np.zeros(5), "position": np.arange(5), "end": np.arange(5)}
    write_shard(work, 0, torch.ones(5, 3), harness.make_rows(columns))
    session.store.commit("capture", "c1", {"n_rows": 5, "width": 3, "tokenizer_hash": "c"})
    for metric, record in zip(METRICS, _run(session, [_cell(m, "a1", "c1") for m in METRICS]).values(), strict=True):
        reasons = {row["metric"]: (row["value"], row["n"], row["reason"]) for row in record.rows}
        assert reasons["similarity"] == (None, 0, "the two sides share no rows"), metric
        assert reasons["kept_share_a"] == (0.0, 0, None)
