"""Similarities that each break one promise."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import harness
from harness.testing import check_similarity
from harness.testing.checks import run_check
from harness.testing.similarities import CHECKS, SimilarityUnderTest


class Good:
    """Correlation of the norms of centred rows: conforms."""

    higher_is_more_similar = True
    range = (-1.0, 1.0)
    symmetric = True
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})
    streams = False

    def __call__(self, x: Tensor, y: Tensor) -> float:
        norms = torch.stack([(rows - rows.mean(dim=0)).norm(dim=1) for rows in (x.double(), y.double())])
        if (norms.std(dim=1) <= 1e-12 * norms.mean(dim=1)).any():
            raise harness.Undefined("all rows of one side have the same norm")
        return float(torch.corrcoef(norms)[0, 1].clamp(-1, 1))


class FalseInvariance(Good):
    invariant_to = Good.invariant_to | {"invertible"}


class UnknownInvariance(Good):
    invariant_to = frozenset({"rotation", "orthogonal"})


class SelfIsNotTheMaximum(Good):
    """A likeness whose sign nobody has looked at."""

    def __call__(self, x: Tensor, y: Tensor) -> float:
        return -super().__call__(x, y)


class DistanceSaidToBeALikeness(Good):
    range = (0.0, 2.0)

    def __call__(self, x: Tensor, y: Tensor) -> float:
        return 1 - super().__call__(x, y)


class OutOfRange(Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        return 100 * super().__call__(x, y)


class NotSymmetric(Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        return super().__call__(x, y) * (1.0 if x.shape[1] >= y.shape[1] else 0.9)


class GivesNaN(Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        try:
            return super().__call__(x, y)
        except harness.Undefined:
            return math.nan


class MindsTheOrder(Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        return super().__call__(x[:4], y[:4])


class WritesIntoRows(Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        x -= x.mean(dim=0)
        return super().__call__(x, y)


class DrawsGlobally(Good):
    def __call__(self, x: Tensor, y: Tensor) -> float:
        places = torch.randperm(len(x))[:200]
        return super().__call__(x[places], y[places])


class Streams(Good):
    """Keeps the rows: streams and conforms."""

    streams = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.rows: tuple[list[Tensor], list[Tensor]] = ([], [])

    def update(self, x: Tensor, y: Tensor) -> None:
        self.rows[0].append(x)
        self.rows[1].append(y)

    def merge(self, other: Streams) -> None:
        for own, its in zip(self.rows, other.rows, strict=True):
            own.extend(its)

    def compute(self) -> float:
        return self(torch.cat(self.rows[0]), torch.cat(self.rows[1]))


class MeanOfParts(Streams):
    def compute(self) -> float:
        values = [self(x, y) for x, y in zip(*self.rows, strict=True) if len(x) > 1]
        return sum(values) / len(values)


class DoesNotReset(Streams):
    def reset(self) -> None:
        if not hasattr(self, "rows"):
            super().reset()

    def update(self, x: Tensor, y: Tensor) -> None:
        super().update(x, y + 0.5 * len(self.rows[0]))


class MergesNothing(Streams):
    def merge(self, other: Streams) -> None: ...


class NormSums:
    """Statistics of `Shares`: the rows themselves."""

    def __init__(self, pairs: Sequence[tuple[str, str]], same_rows: Mapping[str, str], read_again: Any) -> None:
        self.read_again = read_again
        self.rows: dict[str, list[Tensor]] = {}

    def update(self, rows: Mapping[str, Tensor], masked: Mapping[str, Tensor]) -> None:
        for name, x in rows.items():
            self.rows.setdefault(name, []).append(x)

    def pair(self, x: str, y: str, without_x: Tensor, without_y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat(self.rows[x]), torch.cat(self.rows[y])


class HalfOfThem(NormSums):
    def pair(self, x: str, y: str, without_x: Tensor, without_y: Tensor) -> tuple[Tensor, Tensor]:
        both = super().pair(x, y, without_x, without_y)
        return both[0][::2], both[1][::2]


class Shares(Good):
    """From shared statistics: conforms."""

    statistics: type = NormSums

    def compute_from(self, of_pair: tuple[Tensor, Tensor]) -> float:
        return self(*of_pair)


class ReadAgain(NormSums):
    def pair(self, x: str, y: str, without_x: Tensor, without_y: Tensor) -> Any:
        return lambda: [torch.cat([rows[name] for rows, _ in self.read_again({name})]) for name in (x, y)]


class ReadsAgain(Shares):
    """Needs a second reading of the rows: conforms."""

    statistics = ReadAgain

    def compute_from(self, of_pair: Any) -> Any:
        return lambda: self(*of_pair())


class IsContentWithLittle(Shares):
    statistics = HalfOfThem


class SaysThatItStreams(Good):
    streams = True


class OfSides(Good):
    """From what it says of single sides, of which it means one wrongly."""

    def of_side(self, side: str, rows: Tensor) -> Tensor:
        return rows - rows.mean(dim=0) if side == "x" else rows

    def of_sides(self, of_x: Tensor, of_y: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([of_x.norm(dim=1), (of_y - 1).norm(dim=1)]))[0, 1])


class Pairs(Good):
    """Conforms, and has a way of its own to compare many pairings."""

    def permuted(self, x: Tensor, y: Tensor, orders: Sequence[Tensor]) -> list[float]:
        return [self(x, y[order]) for order in orders]


class PairsTheOtherWay(Good):
    def permuted(self, x: Tensor, y: Tensor, orders: Sequence[Tensor]) -> list[float]:
        return [self(x[order], y) for order in orders]


class ForgetsAPairing(Good):
    def permuted(self, x: Tensor, y: Tensor, orders: Sequence[Tensor]) -> list[float]:
        return [self(x, y[order]) for order in list(orders)[1:]]


BROKEN: dict[type, tuple[str, str]] = {
    FalseInvariance: ("keeps_each_invariance", "after the map 'invertible' of x .*take 'invertible' out"),
    UnknownInvariance: ("says_what_it_is", "'rotation'.*orthogonal"),
    SelfIsNotTheMaximum: ("is_most_similar_to_itself", r"s\(x, x\) is -1, .*nothing may be more similar"),
    DistanceSaidToBeALikeness: ("is_most_similar_to_itself", "higher_is_more_similar is True"),
    OutOfRange: ("gives_a_number_in_its_range", "outside its range"),
    NotSymmetric: ("is_symmetric_as_it_says", "say symmetric = False"),
    GivesNaN: ("has_no_number_for_rows_that_are_all_the_same", "nan where the rows of x are all the same"),
    MindsTheOrder: ("does_not_mind_the_order_of_rows", "in another order"),
    WritesIntoRows: ("leaves_its_input_alone", "has changed x"),
    DrawsGlobally: ("repeats_itself", "another state"),
    MeanOfParts: ("streams_as_it_says", r"update\(\) with parts"),
    DoesNotReset: ("streams_as_it_says", r"reset\(\) forgets all"),
    MergesNothing: ("streams_as_it_says", r"merge\(\) of parts"),
    SaysThatItStreams: ("streams_as_it_says", "lacks one of update, merge, compute and reset"),
    IsContentWithLittle: ("gives_in_a_run_what_it_gives_alone", r"s\(x, y\) is .*its value in a run is"),
    OfSides: ("gives_in_a_run_what_it_gives_alone", "follow one definition"),
    PairsTheOtherWay: ("gives_each_pairing_its_own_value", "both must pair alike"),
    ForgetsAPairing: ("gives_each_pairing_its_own_value", "2 values for 3 orders"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    name, message = BROKEN[make]
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, SimilarityUnderTest(make))
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem


@pytest.mark.parametrize("make", [Good, Streams, Shares, ReadsAgain, Pairs])
def test_what_conforms_passes(make: Any) -> None:
    assert not [finding for finding in check_similarity(make) if finding.outcome == "fails"]


class FirstAtoms:
    """A similarity of decompositions: the share of a's atoms that b has, said to be symmetric, which it is not."""

    higher_is_more_similar = True
    range = (0.0, 1.0)
    symmetric = True
    invariant_to: frozenset[str] = frozenset()
    streams = False

    def __call__(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        places = [set(side.atoms["document"] + side.atoms["position"].astype(str)) for side in (a, b)]
        return len(places[0] & places[1]) / len(places[0])


def test_a_metric_of_decompositions() -> None:
    subject = SimilarityUnderTest(FirstAtoms, of_decompositions=True)
    assert [check.__name__ for check in CHECKS if run_check(check, subject).problem] == ["is_symmetric_as_it_says"]
