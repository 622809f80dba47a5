"""Checks of evaluations: their numbers depend on the decomposition and the rows, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from harness.contracts.table_row import TableRow
from harness.errors import Undefined
from harness.registry.metric import TAKEN_NAMES, metric_named
from harness.testing.checks import Broken, Check, NotChecked, described, seed_globally
from harness.testing.evaluation_trials import EvaluationUnderTest, Offered, are_table_rows, directions
from harness.testing.learners import SeedWatch

_TOLERANCE = 1e-5


def gives_table_rows(under_test: EvaluationUnderTest) -> None:
    """evaluate() gives TableRows, each of another metric: a finite value, or None and the reason."""
    found = under_test.outcome
    if isinstance(found, Undefined):
        raise Broken(f"has no value for ordinary rows ({found.reason}); check it with other parameters.")
    if isinstance(found, Exception):
        raise found
    if not are_table_rows(found) or not (rows := list(found)):
        raise Broken(f"evaluate() gave {found!r:.60}; give harness.TableRows, in a list or one by one.")
    names = [row.metric for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Broken(f"evaluate() gives {twice[0]!r} twice; each metric is one row of a table.")
    for row in rows:
        _check_row(row)


def _check_row(row: TableRow, where: str = "") -> None:
    if not isinstance(row.metric, str) or not row.metric or row.metric in TAKEN_NAMES:
        raise Broken(f"a metric is called {row.metric!r}; give a text that is no column of tables.")
    if row.value is None:
        if not row.reason:
            raise Broken(f"{row.metric} has no value and no reason{where}; say why, as `reason`.")
    elif not isinstance(row.value, (int, float)) or not math.isfinite(row.value):
        raise Broken(f"{row.metric} is {row.value!r}{where}; give a finite number, or None and a reason.")
    if row.higher_is_better not in (True, False, None):
        raise Broken(f"{row.metric}: higher_is_better is {row.higher_is_better!r}; say True, False, or None.")
    if not isinstance(row.n, int) or row.n < 0 or (row.value is not None and row.n == 0 and not where):
        raise Broken(f"{row.metric}: n is {row.n!r}; give how many rows (or latents, documents) the value rests on.")


def has_document_sums_that_give_its_values(under_test: EvaluationUnderTest) -> None:
    """DocumentSums of a metric, if any, are finite, one a document, and Σ numerator / Σ denominator is its value."""
    offered = Offered(under_test.rows)
    rows = [row for row in under_test.table(offered).values() if row.documents is not None and row.value is not None]
    if not rows:
        raise NotChecked("no metric has sums over documents, so none gets an interval")
    for row in rows:
        assert row.documents is not None and row.value is not None  # as has just been asked
        sums = [list(side) for side in (row.documents.numerator, row.documents.denominator)]
        n = offered.context.n_documents
        if [len(side) for side in sums] != [n, n] or not all(math.isfinite(part) for side in sums for part in side):
            found = [len(side) for side in sums]
            raise Broken(f"{row.metric} has sums of {found} documents, not {n} finite ones; give 0 and 0 for none.")
        if not sum(sums[1]) or not _close(sum(sums[0]) / sum(sums[1]), row.value):
            ratio = sum(sums[0]) / sum(sums[1]) if sum(sums[1]) else math.nan
            raise Broken(f"{row.metric} is {row.value:.8g}, but its sums over documents give {ratio:.8g}.")


def does_not_mind_the_size_of_blocks(under_test: EvaluationUnderTest) -> None:
    """Rows that come in smaller blocks, and windows in other batches, give the same values, sums and n."""
    before = under_test.table(Offered(under_test.rows))
    for block_rows, n_windows in ((7, 1), (64, 5), (1, 96)):
        after = under_test.table(Offered(under_test.rows, block_rows, n_windows))
        advice = "add up sums over all blocks and divide once, and take no mean of a block."
        _same(before, after, f"in blocks of {block_rows} rows and batches of {n_windows} windows", advice)


def does_not_mind_the_order_of_rows(under_test: EvaluationUnderTest) -> None:
    """The rows of each document in another order give the same values."""
    offered = Offered(under_test.rows)
    before = under_test.table(offered)
    if "head" in offered.asked:
        raise NotChecked("it runs windows, whose tokens have an order")
    rows = under_test.rows
    order = torch.randperm(len(rows.x), generator=torch.Generator().manual_seed(3))
    order = order[rows.documents[order].argsort(stable=True)]
    after = under_test.table(Offered(rows.taken(order)))
    try:
        _same(before, after, "with the rows of each document in another order", "a row's place must say nothing.")
    except Broken:
        drawn, decomposition = set[str](), directions()
        with _draws_watched(drawn):
            under_test.table(offered, decomposition)
        if drawn:
            raise NotChecked(f"it draws at random ({', '.join(sorted(drawn))}), which hits other rows then") from None
        raise


def does_not_mind_the_order_of_documents(under_test: EvaluationUnderTest) -> None:
    """The documents in another order give the same values, and each its own sums."""
    rows, decomposition, drawn = under_test.rows, directions(), set[str]()
    with _draws_watched(set()):  # importing may draw: of the first run nothing is said
        under_test.table(Offered(rows), decomposition)
    with _draws_watched(drawn):
        before = under_test.table(Offered(rows), decomposition)
    if drawn:
        raise NotChecked(f"it draws at random ({', '.join(sorted(drawn))}): in another order that hits other documents")
    order = torch.randperm(int(rows.documents.max()) + 1, generator=torch.Generator().manual_seed(4))
    places = torch.cat([(rows.documents == number).nonzero()[:, 0] for number in order.tolist()])
    after = under_test.table(Offered(rows.taken(places)))
    back = order.argsort().tolist()
    advice = "split documents by a draw with a seed of its own, not by their place."
    _same(before, {name: _sorted(row, back) for name, row in after.items()}, "with documents in another order", advice)


def does_not_remember(under_test: EvaluationUnderTest) -> None:
    """A decomposition's values do not depend on those evaluated before it, by way of context.shared or the instance."""
    offered, evaluation = Offered(under_test.rows), under_test.make()
    evaluated = {"one": directions(0), "another": directions(1, 20)}
    alone = {name: under_test.table(Offered(under_test.rows), own) for name, own in evaluated.items()}
    for name in ("another", "one", "another"):
        for how, own in (("context.shared", None), ("the instance", evaluation)):
            after = under_test.table(offered, evaluated[name], own)
            advice = f"keep in {how} only what all decompositions of these rows have in common."
            _same(alone[name], after, "after another decomposition was evaluated", advice)


def repeats_itself(under_test: EvaluationUnderTest) -> None:
    """Numbers for a decomposition and its rows are the same each time, whatever the global random states."""
    found = []
    for seed in (1, 2):
        seed_globally(seed)
        found.append(under_test.table(Offered(under_test.rows)))
    advice = "draw with np.random.default_rng(seed), the seed being a parameter."
    _same(found[0], found[1], "when the global random generators have another state", advice, 0.0)


def leaves_its_input_alone(under_test: EvaluationUnderTest) -> None:
    """Neither the rows, the documents and the labels, nor the decomposition are changed."""
    offered, decomposition = Offered(under_test.rows), directions()
    under_test.table(offered, decomposition)
    for name in ("x", "masked", "documents", "codes", "dictionary"):
        if not torch.equal(getattr(offered.rows, name), getattr(under_test.rows, name)):
            raise Broken(f"evaluate() has changed the {name} of the context: use x - mean, not x -= mean.")
    if list(map(dict, offered.rows.labels)) != list(map(dict, under_test.rows.labels)):
        raise Broken("evaluate() has changed the labels of the context.")
    if not torch.equal(decomposition.directions, directions().directions):
        raise Broken("evaluate() has changed the decomposition's weights: others evaluate it too.")


def takes_sparse_codes_and_dense_ones(under_test: EvaluationUnderTest) -> None:
    """Equal codes have the same values, whether they come as [n, k] with indices or dense."""
    before, after = (under_test.table(Offered(under_test.rows), directions(is_dense=dense)) for dense in (False, True))
    _same(before, after, "where the same codes come dense", "where codes.indices is None, values are [n, n_latents].")


def leaves_out_masked_rows(under_test: EvaluationUnderTest) -> None:
    """A metric whose n is the number of unmasked rows does not see the others, which may hold NaN."""
    rows = under_test.rows
    n, before = int((~rows.masked).sum()), under_test.table(Offered(rows))
    rests = {name: row for name, row in before.items() if row.n == n}
    for value, what in ((1e4, "1e4"), (math.nan, "NaN")):
        x = rows.x.clone()
        x[rows.masked] = value
        after = under_test.table(Offered(replace(rows, x=x)))
        for row in after.values():
            _check_row(row, f" where masked rows hold {what}")
        advice = "leave out the rows whose mask is True, x[~masked], or say an n that counts them."
        _same(rests, {name: after[name] for name in rests}, f"where the masked rows hold {what}", advice)
    if not rests:
        raise NotChecked(f"no metric rests on the {n} unmasked rows")


def has_a_reason_where_there_is_no_value(under_test: EvaluationUnderTest) -> None:
    """Rows that are all masked, all equal or all zero, or of one document: finite values, reasons or Undefined."""
    rows = under_test.rows
    for what, odd in (
        ("all rows are masked", replace(rows, masked=torch.ones_like(rows.masked))),
        ("all rows are equal", replace(rows, x=rows.x[:1].repeat(len(rows.x), 1))),
        ("all rows are zero", replace(rows, x=torch.zeros_like(rows.x))),
        ("there is one document", rows.taken((rows.documents == 0).nonzero()[:, 0])),
    ):
        for row in _rows_or_none(under_test, Offered(odd), f"where {what}"):
            _check_row(row, f" where {what}")


def says_what_it_lacks(under_test: EvaluationUnderTest) -> None:
    """Rows without a head, labels or a truth lead to Undefined, or to table rows with a reason."""
    used = Offered(under_test.rows)
    under_test.table(used)
    if not used.asked:
        raise NotChecked("it asks for no head, labels or truth")
    for name in sorted(used.asked):
        lacking = Offered(under_test.rows, absent=frozenset({name}))
        for row in _rows_or_none(under_test, lacking, f"where there is no {name}"):
            _check_row(row, f" where there is no {name}")


def needs_what_it_says(under_test: EvaluationUnderTest) -> None:
    """The `needs` of its Spec name all that it can't do without (head, labels, truth), and a dictionary."""
    if under_test.needs is None:
        raise NotChecked("its Spec is not at hand; it is tried where the evaluation is given by its name")
    offered = Offered(under_test.rows)
    has_dictionary = "dictionary" in under_test.needs
    try:
        under_test.table(offered, directions(has_dictionary=has_dictionary))
    except (TypeError, AttributeError) as error:
        if has_dictionary:
            raise
        raise Broken(f"without a dictionary it {described(error)}: say needs=('dictionary',).") from error
    for name in sorted(offered.asked - set(under_test.needs)):
        lacking = Offered(under_test.rows, absent=frozenset({name}))
        if any(row.value is not None for row in _rows_or_none(under_test, lacking, f"where there is no {name}")):
            continue
        raise Broken(f"it asks for {name}, which is not in needs: {tuple(under_test.needs)}. Add it.")


def declares_its_metrics(under_test: EvaluationUnderTest) -> None:
    """The `metrics` of its Spec name every metric that it gives: what they do not name is on no leaderboard or plot."""
    if under_test.metrics is None:
        raise NotChecked("its Spec is not at hand; it is tried where the evaluation is given by its name")
    declared = under_test.metrics
    found = under_test.table(Offered(under_test.rows))
    if unknown := [name for name in found if metric_named(name, declared) is None]:
        known = f"names {', '.join(metric.name for metric in declared)}" if declared else "names none"
        raise Broken(
            f"it gives {', '.join(unknown)}, and `metrics` of its Spec {known}: add harness.Metric({unknown[0]!r}, "
            "heading, meaning, role=...), where the role says who is shown it."
        )


def _rows_or_none(under_test: EvaluationUnderTest, offered: Offered, when: str) -> Iterator[TableRow]:
    try:
        yield from under_test.table(offered).values()
    except (Undefined, NotChecked) as reason:
        if isinstance(reason, NotChecked):
            raise
    except Exception as error:
        raise Broken(
            f"{when} it {described(error)} Raise harness.Undefined(reason), or give rows without a value."
        ) from error


def _same(
    before: Mapping[str, TableRow], after: Mapping[str, TableRow], when: str, advice: str, tolerance: float = _TOLERANCE
) -> None:
    if before.keys() != after.keys():
        raise Broken(
            f"it gives {sorted(after)} {when}, and {sorted(before)} else: give a reason where there is no value."
        )
    for name, row in before.items():
        other = after[name]
        if (row.value is None) != (other.value is None) or not _close(row.value or 0.0, other.value or 0.0, tolerance):
            raise Broken(f"{name} is {row.value!r}, but {other.value!r} {when}: {advice}")
        if row.n != other.n:
            raise Broken(f"{name} rests on {row.n}, but on {other.n} {when}: {advice}")
        for part in ("numerator", "denominator"):
            sums = [np.asarray(getattr(own.documents, part), float) for own in (row, other) if own.documents]
            if len(sums) == 2 and np.abs(sums[0] - sums[1]).max() > 1e-4 * np.abs(sums[0]).max():
                raise Broken(f"the {part}s of {name} belong to other documents {when}: {advice}")


def _close(a: float, b: float, tolerance: float = _TOLERANCE) -> bool:
    return abs(a - b) <= tolerance * max(1.0, abs(a))


def _sorted(row: TableRow, order: list[int]) -> TableRow:
    """A row whose sums stand in another order of documents."""
    if row.documents is None:
        return row
    sides = ([side[place] for place in order] for side in (row.documents.numerator, row.documents.denominator))
    return replace(row, documents=type(row.documents)(*sides))


@contextmanager
def _draws_watched(drawn: set[str]) -> Iterator[None]:
    """Note who draws random numbers, by torch's operations or by a generator of numpy's."""
    watch, make_generator = SeedWatch(), np.random.default_rng

    def noting(seed: Any = None) -> np.random.Generator:
        drawn.add("np.random.default_rng")
        return make_generator(seed)

    np.random.default_rng = noting
    try:
        with watch:
            yield
    finally:
        np.random.default_rng = make_generator
        drawn |= watch.drawn


CHECKS: list[Check] = [
    gives_table_rows,
    has_document_sums_that_give_its_values,
    does_not_mind_the_size_of_blocks,
    does_not_mind_the_order_of_rows,
    does_not_mind_the_order_of_documents,
    does_not_remember,
    repeats_itself,
    leaves_its_input_alone,
    takes_sparse_codes_and_dense_ones,
    leaves_out_masked_rows,
    has_a_reason_where_there_is_no_value,
    says_what_it_lacks,
    needs_what_it_says,
    declares_its_metrics,
]
