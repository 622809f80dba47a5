"""The form of a value follows from what its metric can do; rows are read by blocks, again if need be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.capturing.activations import TensorActivations
from harness.comparing.pair_values import FromBlocks, FromRows, FromSides, FromStatistics, PairValue, pair_value
from harness.comparing.pairing import AlignedRows, Pair
from harness.comparing.reading import read
from harness.comparing.sides import Sides
from harness.contracts.rows import bare_rows

CPU = torch.device("cpu")
N_ROWS = 700


def _view(name: str, x: Float[Tensor, "n d"], n_masked: int = 0) -> AlignedRows:
    n = len(x)
    masked = torch.arange(n) < n_masked
    return AlignedRows(name, name, TensorActivations(x, bare_rows(n)), torch.arange(n), masked, CPU)


def _pair(n_masked: int = 0) -> Pair:
    x = torch.randn(N_ROWS, 12, generator=torch.Generator().manual_seed(0))
    y = torch.tanh(x[:, :9]) + 0.1 * x[:, 3:]
    return Pair(_view("one", x, n_masked), _view("other", y))


def _value(pair: Pair, name: str, **params: Any) -> PairValue:
    return pair_value("similarity", harness.create("similarity", name, **params), "call", pair, Sides(2**20))


def test_a_pair_keeps_nothing_of_the_length_of_its_rows() -> None:
    """There are thousands of pairs in a family, and hundreds of thousands of rows."""
    pair = _pair(n_masked=40)
    assert pair.n_rows == N_ROWS - 40 == len(pair.take()[0]) and len(pair.kept_digest) == 32
    assert torch.equal(pair.kept(slice(30, 50)), pair.kept()[30:50])
    assert not [name for name, value in vars(pair).items() if isinstance(value, Tensor)]


FORMS: list[tuple[type[PairValue], str, dict[str, Any]]] = [
    (FromStatistics, "cka", {}),
    (FromStatistics, "procrustes", {}),
    (FromBlocks, "relative", {"anchors": 20}),
    (FromSides, "mutual_knn", {}),
    (FromRows, "cka", {"kernel": "rbf"}),
    (FromRows, "relative", {"anchors": 20, "compare": "rank"}),
]


@pytest.mark.parametrize(("form", "name", "params"), FORMS)
def test_each_form_gives_the_value(form: type[PairValue], name: str, params: dict[str, Any]) -> None:
    pair = _pair(n_masked=40)
    value = _value(pair, name, **params)
    assert type(value) is form
    read([value], 256, CPU)
    row = value.end()
    metric = harness.create("similarity", name, **params)
    assert row["value"] == pytest.approx(metric(*pair.take()), abs=1e-6) and row["n"] == N_ROWS - 40
    assert row["higher_is_better"] == metric.higher_is_more_similar


@pytest.mark.parametrize(("form", "name", "params"), FORMS)
def test_representations_that_share_no_rows_have_no_value(
    form: type[PairValue], name: str, params: dict[str, Any]
) -> None:
    value = _value(_pair(n_masked=N_ROWS), name, **params)
    read([value], 256, CPU)
    row = value.end()
    assert (row["value"], row["reason"]) == (None, "the two sides share no rows")


def test_a_reading_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    values = [_value(_pair(), "cka"), _value(_pair(), "relative", anchors=20)]
    read(values, 300, CPU, lambda done, total: told.append((done, total)))
    assert told == [(300, N_ROWS), (600, N_ROWS), (N_ROWS, N_ROWS)]
    told.clear()
    read([_value(_pair(), "mutual_knn")], 300, CPU, lambda done, total: told.append((done, total)))
    assert not told  # nothing takes blocks


class _TakesAll(harness.Similarity):
    """Says that it streams, and does not."""

    higher_is_more_similar, range, symmetric, streams = True, (0.0, 1.0), True, True
    invariant_to: frozenset[str] = frozenset()

    def __call__(self, x: Tensor, y: Tensor) -> float:
        return 1.0


def test_a_metric_that_says_it_streams_must() -> None:
    with pytest.raises(harness.PluginError, match=r"_TakesAll says streams = True, but .* say streams = False"):
        pair_value("similarity", _TakesAll(), "call", _pair(), Sides(2**20))


class _Leads(harness.Similarity):
    """An asymmetric metric, which makes something else of x than of y."""

    higher_is_more_similar, range, symmetric, streams = True, (0.0, 1.0), False, False
    invariant_to: frozenset[str] = frozenset()

    def of_side(self, side: str, rows: Tensor) -> Tensor:
        return (rows if side == "x" else rows.square()).double().mean()

    def of_sides(self, of_x: Tensor, of_y: Tensor) -> float:
        return float(of_x.tanh() / (1 + of_y))

    def __call__(self, x: Tensor, y: Tensor) -> float:
        return self.of_sides(self.of_side("x", x), self.of_side("y", y))


def test_a_side_of_an_asymmetric_metric_is_not_taken_for_the_other() -> None:
    kept, pair = Sides(2**20), _pair()
    for one, other in ((pair.one, pair.other), (pair.other, pair.one)):
        value = pair_value("similarity", _Leads(), "call", Pair(one, other), kept)
        read([value], 256, CPU)
        assert value.end()["value"] == _Leads()(*Pair(one, other).take())
