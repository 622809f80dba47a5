"""Similarity: compare representations on the rows they share, or two decompositions, by themselves or on such rows.

The representations of a family's models are compared in one job: the rows of their places are read together, block by
block, and every metric that streams is fed from the same blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from harness.comparing.joined import JoinedAtoms
from harness.comparing.pair_values import PairValue, pair_value
from harness.comparing.pairing import Pair, Pairing, SharedRows
from harness.comparing.permutations import Permutations
from harness.comparing.reading import read
from harness.comparing.sides import SIDES_BYTES, Sides
from harness.comparing.values import SimilarityValue
from harness.contracts.decomposition import Decomposition, load
from harness.contracts.similarity import (
    ChanceCorrected,
    CountsSilentLatents,
    Similarity,
    SimilarityOfCodes,
    WithChance,
    WithOverlap,
)
from harness.errors import Undefined
from harness.planning.cells import Cell
from harness.planning.keys import canonical_json
from harness.running.session import Session
from harness.storage.records import row
from harness.storage.store import require

# Blocks of all places are held at once, so they are small. Part of the numbers, like every order of summation: between
# these two kinds of device sums in float64 differ by rounding, values by less than the error that their metric states.
_BLOCK_ROWS = 1024
_BLOCK_ROWS_ON_CARD = 4096
# What the sums of all pairs of one reading may take; for more pairs the rows are read again.
_SUMS_BYTES = 2**30


def run(cells: list[Cell], session: Session) -> None:
    """Compare two models' fits by all metrics, or all pairs of places of a family's models."""
    pairing = Pairing(session.store, session.device)
    if "fit" in _parts(cells[0].work["a"])[0]:
        for cell in cells:
            with session.alone(cell):
                has_rows = "capture" in cell.work["a"]
                rows = _of_codes(cell.work, pairing, session) if has_rows else _of_decompositions(cell.work, session)
                session.done(cell, rows)
        return
    cells_of: dict[SharedRows, list[Cell]] = {}
    for cell in cells:
        with session.alone(cell):
            cells_of.setdefault(pairing.shared(cell.work["a"], cell.work["b"]), []).append(cell)
    for reading in _readings(cells_of):
        _of_representations(reading, session)


def _of_decompositions(work: Any, session: Session) -> list[dict[str, Any]]:
    metric: Similarity = session.create("similarity", work["similarity"])
    a, b = _fits(work, session)
    has_atoms = "atoms" in session.catalog.needs("similarity", **work["similarity"])
    n = min((side.n_candidates or 0) if has_atoms else side.n_latents for side in (a, b))
    forms: dict[str, Callable[[Decomposition, Decomposition], float]] = {"similarity": metric}
    if isinstance(metric, WithOverlap):
        forms["overlap"] = metric.overlap
    if isinstance(metric, WithChance):
        forms["chance"] = metric.chance
    if isinstance(metric, ChanceCorrected):
        forms["corrected"] = metric.corrected
    return [
        SimilarityValue(name, n, metric.higher_is_more_similar).row(partial(form, a, b)) for name, form in forms.items()
    ]


def _of_codes(work: Any, pairing: Pairing, session: Session) -> list[dict[str, Any]]:
    """Compare codes of the evaluation rows that both places share."""
    metric: SimilarityOfCodes = session.create("similarity", work["similarity"])
    a, b = _fits(work, session)
    shared = pairing.shared(work["a"], work["b"])

    def found(name: str, form: Callable[..., float], pair: Pair, higher_is_more_similar: bool | None) -> dict[str, Any]:
        def of_rows() -> float:
            if not pair.n_rows:
                raise Undefined("the two sides share no rows")
            return form(a, b, *pair.take())

        return SimilarityValue(name, pair.n_rows, higher_is_more_similar).row(of_rows)

    pairs = {"similarity": shared.pair, "null_shuffled_rows": shared.null}
    rows = [found(name, metric, pair, metric.higher_is_more_similar) for name, pair in pairs.items()]
    if isinstance(metric, CountsSilentLatents):
        counts = {"silent_share_a": metric.silent_share_a, "silent_share_b": metric.silent_share_b}
        rows += [found(name, count, shared.pair, None) for name, count in counts.items()]
    return rows + _kept_shares(shared)


def _fits(work: Any, session: Session) -> tuple[Decomposition, Decomposition]:
    a, b = (_fitted(work[side], session) for side in "ab")
    return a, b


def _fitted(side: Any, session: Session) -> Decomposition:
    fits = [load(require(session.store, "fit", part["fit"])[0], session.device) for part in _parts(side)]
    return JoinedAtoms(fits) if "sites" in side else fits[0]


def _parts(side: Any) -> list[Any]:
    """The sites of a side: several, or the side itself where it is one site."""
    return list(side.get("sites", [side]))


def _readings(cells_of: dict[SharedRows, list[Cell]]) -> Iterator[dict[SharedRows, list[Cell]]]:
    """Groups of pairs of one alignment, each as large as there is room for; a group is fed from one reading."""
    reading: dict[SharedRows, list[Cell]] = {}
    n_bytes = 0
    for shared, cells in sorted(cells_of.items(), key=lambda item: item[0].alignment.number):
        own_bytes = 2 * 8 * shared.pair.one.activations.width * shared.pair.other.activations.width
        is_other = reading and shared.alignment is not next(iter(reading)).alignment
        if is_other or (reading and n_bytes + own_bytes > _SUMS_BYTES):
            yield reading
            reading, n_bytes = {}, 0
        reading[shared] = cells
        n_bytes += own_bytes
    if reading:
        yield reading


def _of_representations(reading: dict[SharedRows, list[Cell]], session: Session) -> None:
    values: dict[str, list[PairValue]] = {}
    sides = Sides(SIDES_BYTES)
    for shared, cells in reading.items():
        for cell in cells:
            with session.alone(cell):
                values[cell.key] = _values(cell, shared, sides, session)
    all_values = list(itertools.chain(*values.values()))
    block_rows = _BLOCK_ROWS_ON_CARD if session.device.type == "cuda" else _BLOCK_ROWS
    read(all_values, block_rows, session.device, partial(session.progress, "rows compared"))
    for shared, cells in reading.items():
        permutations = Permutations(shared.pair, cells[0].work.get("permutations", 0))
        for cell in cells:
            if cell.key in values:
                with session.alone(cell):
                    rows = [value.end() for value in values[cell.key]]
                    session.done(cell, rows + _permuted(cell, rows, permutations, session) + _kept_shares(shared))


def _values(cell: Cell, shared: SharedRows, sides: Sides, session: Session) -> list[PairValue]:
    call = cell.work["similarity"]
    metric: Similarity = session.create("similarity", call)
    pairs = {"similarity": shared.pair, "null_shuffled_rows": shared.null}
    if not metric.symmetric:
        pairs["similarity_reversed"] = shared.reversed
    # An instance for each: they are fed side by side.
    return [
        pair_value(name, session.create("similarity", call), canonical_json(call), pair, sides)
        for name, pair in pairs.items()
    ]


def _permuted(
    cell: Cell, rows: list[dict[str, Any]], permutations: Permutations, session: Session
) -> list[dict[str, Any]]:
    """Set the values of a cell beside those of random pairings, if its suite asks for such."""
    if not permutations.n_permutations:
        return []
    metric: Similarity = session.create("similarity", cell.work["similarity"])
    observed = [row for row in rows if row["metric"] in ("similarity", "similarity_reversed")]
    return list(itertools.chain.from_iterable(permutations.rows(metric, row) for row in observed))


def _kept_shares(shared: SharedRows) -> list[dict[str, Any]]:
    n = shared.pair.n_rows
    kept = {"kept_share_a": shared.pair.one, "kept_share_b": shared.pair.other}
    return [row("similarity", name, n / view.activations.n_rows, n, None) for name, view in kept.items()]
