"""Evaluations that each break one promise."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.contracts.table_row import checked_rows
from harness.testing import check_evaluation
from harness.testing.checks import run_check
from harness.testing.evaluation_trials import EvaluationUnderTest, Offered, directions, evaluated_rows
from harness.testing.evaluations import CHECKS


class Good:
    """The mean length of what is lost of a row."""

    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        lengths, rows = torch.zeros(2, context.n_documents, dtype=torch.float64)
        for x, documents in self.rows(context):
            lengths.index_add_(0, documents, self.lost(x, decomposition).double())
            rows.index_add_(0, documents, torch.ones(len(x), dtype=torch.float64))
        if not rows.sum():
            return [harness.TableRow("lost", None, 0, False, "all rows are masked")]
        return [self.row(float(lengths.sum() / rows.sum()), int(rows.sum()), lengths, rows)]

    def rows(self, context: harness.EvaluationContext) -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for x, masked in context.blocks():
            documents = context.documents[start : start + len(x)]
            start += len(x)
            yield x[~masked], documents[~masked]

    def lost(self, x: Tensor, decomposition: harness.Decomposition) -> Tensor:
        return (x - decomposition.decode(decomposition.encode(x))).norm(dim=1)

    def row(self, value: float, n: int, lengths: Tensor, rows: Tensor) -> harness.TableRow:
        sums = harness.DocumentSums(lengths.tolist(), rows.tolist())
        return harness.TableRow("lost", value, n, False, documents=sums)


class GivesNumbers(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return {"lost": 0.5}


class GivesNothing(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        yield from ()


class SaysThingsTwice(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return super().evaluate(decomposition, context) * 2


class TakesTheNameOfAColumn(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return [harness.TableRow("seed", 0.5, 10)]


class RestsOnNothing(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return [harness.TableRow("lost", 0.5, 0)]


class HasNoReason(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return [harness.TableRow("lost", None, 0)]


class SumsOfRows(Good):
    def row(self, value: float, n: int, lengths: Tensor, rows: Tensor) -> harness.TableRow:
        return harness.TableRow("lost", value, n, False, documents=harness.DocumentSums([value] * n, [1.0] * n))


class OtherSums(Good):
    def row(self, value: float, n: int, lengths: Tensor, rows: Tensor) -> harness.TableRow:
        found = super().row(value, n, lengths**2, rows)
        return harness.TableRow("lost", value, n, False, documents=found.documents)


class MeanOfBlocks(Good):
    """A mean over blocks of the mean of each."""

    def evaluate(self, decomposition: Any, context: Any) -> Any:
        means = [float(self.lost(x, decomposition).mean()) for x, _ in self.rows(context) if len(x)]
        return [harness.TableRow("lost", float(np.mean(means or [0])), int((~_masked(context)).sum()), False)]


class CentresTheBlock(Good):
    def lost(self, x: Tensor, decomposition: harness.Decomposition) -> Tensor:
        return super().lost(x - x.mean(dim=0), decomposition) if len(x) else x.sum(dim=1)


class FirstRowsWeighMore(Good):
    def lost(self, x: Tensor, decomposition: harness.Decomposition) -> Tensor:
        return super().lost(x, decomposition) / torch.arange(1, len(x) + 1)


class FirstHalf(Good):
    """Judges the first documents by the others."""

    def rows(self, context: harness.EvaluationContext) -> Iterator[tuple[Tensor, Tensor]]:
        for x, documents in super().rows(context):
            is_first = documents < context.n_documents // 2
            yield x[is_first], documents[is_first]


class SumsByPlace(Good):
    """Sums that are not those of their documents."""

    def row(self, value: float, n: int, lengths: Tensor, rows: Tensor) -> harness.TableRow:
        order = lengths.argsort()
        return super().row(value, n, lengths[order], rows[order])


class SharesTheFirstsValue(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        if "lost" not in context.shared:
            context.shared["lost"] = super().evaluate(decomposition, context)
        return context.shared["lost"]


class RemembersTheBest(Good):
    best = math.inf

    def row(self, value: float, n: int, lengths: Tensor, rows: Tensor) -> harness.TableRow:
        self.best = min(self.best, value)
        return harness.TableRow("lost", self.best, n, False)


class DrawsGlobally(Good):
    def row(self, value: float, n: int, lengths: Tensor, rows: Tensor) -> harness.TableRow:
        return harness.TableRow("lost", value + random.random(), n, False)


class WritesIntoRows(Good):
    def rows(self, context: harness.EvaluationContext) -> Iterator[tuple[Tensor, Tensor]]:
        for x, _ in context.blocks():
            x -= x.mean(dim=0)
        return super().rows(context)


class ScalesTheDictionary(Good):
    def lost(self, x: Tensor, decomposition: harness.Decomposition) -> Tensor:
        decomposition.directions *= 1.01  # type: ignore[attr-defined]
        return super().lost(x, decomposition)


class TakesSparseCodesOnly(Good):
    def lost(self, x: Tensor, decomposition: harness.Decomposition) -> Tensor:
        return (decomposition.encode(x).values.abs() >= 0).sum(dim=1).double()


class SeesMaskedRows(Good):
    """They are left out of n, and not of the sum."""

    def evaluate(self, decomposition: Any, context: Any) -> Any:
        kept = int((~_masked(context)).sum())
        total = sum(float(self.lost(x, decomposition).sum()) for x, _ in context.blocks())
        return [harness.TableRow("lost", total / max(kept, 1), kept, False)]


class DividesByZero(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        lost = torch.cat([self.lost(x, decomposition) for x, _ in self.rows(context)])
        norms = torch.cat([x.norm(dim=1) for x, _ in self.rows(context)])
        return [harness.TableRow("lost", float(lost.sum() / norms.sum()), len(lost), False)]


class MakesLabelsUp(Good):
    """Takes all documents to have one label where there are none."""

    def evaluate(self, decomposition: Any, context: Any) -> Any:
        n = len({tuple(labels.items()) for labels in context.labels()})
        return [harness.TableRow("labels", float(n), n)]


class CrashesWithoutLabels(MakesLabelsUp):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        try:
            return super().evaluate(decomposition, context)
        except harness.Undefined:
            return [harness.TableRow("labels", math.nan, 0)]


class WantsADictionary(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return [harness.TableRow("length", float(decomposition.dictionary.norm()), decomposition.n_latents)]


def _masked(context: harness.EvaluationContext) -> Tensor:
    return torch.cat([masked for _, masked in context.blocks()])


BROKEN: dict[type, tuple[str, str]] = {
    GivesNumbers: ("gives_table_rows", "give harness.TableRows, in a list or one by one"),
    GivesNothing: ("gives_table_rows", "give harness.TableRows, in a list or one by one"),
    SaysThingsTwice: ("gives_table_rows", "'lost' twice"),
    TakesTheNameOfAColumn: ("gives_table_rows", "no column of tables"),
    RestsOnNothing: ("gives_table_rows", "n is 0"),
    HasNoReason: ("gives_table_rows", "no value and no reason"),
    SumsOfRows: ("has_document_sums_that_give_its_values", "not 96 finite ones"),
    OtherSums: ("has_document_sums_that_give_its_values", "its sums over documents give"),
    MeanOfBlocks: ("does_not_mind_the_size_of_blocks", "in blocks of 7 rows.*divide once"),
    CentresTheBlock: ("does_not_mind_the_size_of_blocks", "in blocks of 7 rows"),
    FirstRowsWeighMore: ("does_not_mind_the_order_of_rows", "a row's place must say nothing"),
    FirstHalf: ("does_not_mind_the_order_of_documents", "not by their place"),
    SumsByPlace: ("does_not_mind_the_order_of_documents", "belong to other documents"),
    SharesTheFirstsValue: ("does_not_remember", "keep in context.shared only"),
    RemembersTheBest: ("does_not_remember", "keep in the instance only"),
    DrawsGlobally: ("repeats_itself", "default_rng"),
    WritesIntoRows: ("leaves_its_input_alone", "changed the x of the context"),
    ScalesTheDictionary: ("leaves_its_input_alone", "decomposition's weights"),
    TakesSparseCodesOnly: ("takes_sparse_codes_and_dense_ones", "where the same codes come dense"),
    SeesMaskedRows: ("leaves_out_masked_rows", r"x\[~masked\]"),
    DividesByZero: ("has_a_reason_where_there_is_no_value", "nan where all rows are masked"),
    CrashesWithoutLabels: ("says_what_it_lacks", "nan where there is no labels"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    _assert_found(EvaluationUnderTest(make), *BROKEN[make])


@pytest.mark.parametrize(
    ("make", "message"), [(MakesLabelsUp, "asks for labels"), (WantsADictionary, r"needs=\('dictionary',\)")]
)
def test_needs_that_are_not_named_are_found(make: Any, message: str) -> None:
    _assert_found(EvaluationUnderTest(make, needs=()), "needs_what_it_says", message)
    named = EvaluationUnderTest(make, needs=("labels", "dictionary"))
    (check,) = [check for check in CHECKS if check.__name__ == "needs_what_it_says"]
    assert run_check(check, named).outcome == "holds"


class GivesATuple(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        return tuple(super().evaluate(decomposition, context))


class GivesOneByOne(Good):
    def evaluate(self, decomposition: Any, context: Any) -> Any:
        yield from super().evaluate(decomposition, context)


@pytest.mark.parametrize("make", [GivesATuple, GivesOneByOne])
def test_rows_come_in_any_collection_that_runs_take(make: Any) -> None:
    outcomes = {finding.check: finding.outcome for finding in check_evaluation(make)}
    assert outcomes == {finding.check: finding.outcome for finding in check_evaluation(Good)}
    assert len(checked_rows(make().evaluate(directions(), Offered(evaluated_rows()).context), "acme")) == 1


def test_a_metric_that_is_not_declared_is_found() -> None:
    lost = harness.Metric("lost", "lost", "mean length of what is lost")
    other = harness.Metric("los", "lost", "a misspelt one")
    _assert_found(EvaluationUnderTest(Good, metrics=()), "declares_its_metrics", "gives lost, .* names none: add")
    _assert_found(EvaluationUnderTest(Good, metrics=(other,)), "declares_its_metrics", "Spec names los: add")
    (check,) = [check for check in CHECKS if check.__name__ == "declares_its_metrics"]
    family = harness.Metric("l*t", "lost *", "a family")
    for metrics in ((other, lost), (family,)):
        assert run_check(check, EvaluationUnderTest(Good, metrics=metrics)).outcome == "holds"


def test_a_draw_of_documents_is_no_order() -> None:
    """One that draws documents by a seed has other ones in another order: nothing can be said of that."""

    class Draws(Good):
        def rows(self, context: harness.EvaluationContext) -> Iterator[tuple[Tensor, Tensor]]:
            drawn = torch.from_numpy(np.random.default_rng(0).permutation(context.n_documents)[:30])
            for x, documents in super().rows(context):
                chosen = torch.isin(documents, drawn)
                yield x[chosen], documents[chosen]

    outcomes = {finding.check: finding.outcome for finding in check_evaluation(Draws)}
    assert outcomes["does_not_mind_the_order_of_documents"] == "not checked"
    assert "fails" not in outcomes.values()


def test_what_conforms_passes() -> None:
    outcomes = {finding.check: finding.outcome for finding in check_evaluation(Good)}
    not_checked = {name for name, outcome in outcomes.items() if outcome == "not checked"}
    assert not_checked == {"says_what_it_lacks", "needs_what_it_says", "declares_its_metrics"}
    assert "fails" not in outcomes.values()


def _assert_found(under_test: EvaluationUnderTest, name: str, message: str) -> None:
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, under_test)
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem
