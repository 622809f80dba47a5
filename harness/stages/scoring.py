"""Scoring: how well the sampled latents of a decomposition can be understood."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from harness.asking.respondents import Respondents, planned
from harness.contracts.latent import Latent
from harness.contracts.requests import Request
from harness.contracts.scorer import Scorer, also_of, range_of
from harness.contracts.table_row import TableRow
from harness.errors import PluginError, Undefined
from harness.latents.explanations import Explanations, explained, read_explanations
from harness.latents.sampled_latents import SampledLatent, SampledLatents
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.records import cost
from harness.storage.store import require
from harness.tables.verdicts import write_cell

_Asked: TypeAlias = tuple[Latent, list[Request]] | Undefined
"""A latent as its scorer sees it with what is asked about it, or why nothing is."""


def run(cells: list[Cell], session: Session) -> None:
    """Score the latents of decompositions; what was embedded for one cell is there for the next."""
    sampled, respondents = SampledLatents(session.store), Respondents(cells[0].work, session)
    for number, cell in enumerate(cells):
        with session.alone(cell):
            name, method = cell.work["scorer"]["name"], cell.columns["method"]
            units = sampled.of(cell.work)
            if not units:
                session.skip(cell, f"no latent of {method} has enough windows to be scored")
            elif _needs_atoms(cell.work["scorer"], session) and not any(unit.latent.source for unit in units):
                session.skip(cell, f"{name} needs atoms that were taken from a text, which {method} lacks")
            else:
                respondents.turn_to(cell.work["fit"])
                try:
                    rows, verdicts, incomplete = _rows(cell.work, units, respondents, session)
                    write_cell(session.store, cell.key, verdicts)  # first: a record says that all of a cell is there
                    session.done(cell, rows, incomplete=incomplete)
                except Undefined as undefined:
                    session.skip(cell, f"{name}: {undefined.reason}")
        session.progress("scored", number + 1, len(cells))


def _needs_atoms(scorer: Mapping[str, Any], session: Session) -> bool:
    return "atoms" in session.catalog.needs("scorer", **scorer)


Rows: TypeAlias = list[dict[str, Any]]


def _rows(
    work: Mapping[str, Any], units: Sequence[SampledLatent], respondents: Respondents, session: Session
) -> tuple[Rows, Rows, str | None]:
    """Those of the table, the verdicts on single windows, and what both lack that may yet be had."""
    started, asked_before = time.perf_counter(), respondents.usage
    name = work["scorer"]["name"]
    scorer: Scorer = session.create("scorer", work["scorer"])
    explanations = incomplete = None
    if "explanation" in work:
        folder, manifest = require(session.store, "explanation", work["explanation"])
        explanations = read_explanations(folder)
        incomplete = manifest.get("incomplete") and f"of the explanations: {manifest['incomplete']}"
    asked = [_ask(scorer, unit.latent, explanations, respondents) for unit in units]
    pairs = [one for one in asked if not isinstance(one, Undefined)]
    respondents.prepare([(latent, request) for latent, plan in pairs for request in plan])
    rows, verdicts = [], []
    for unit, one in zip(units, asked, strict=True):
        for found in _reduce(scorer, len(unit.latent.test), one, respondents):
            rows.append(_table_row(found, unit, scorer))
            of_unit = {name: unit.columns[name] for name in ("latent", "sign")}
            verdicts += [of_unit | unit.places.row(verdict) for verdict in found.verdicts]
    seconds = cost(f"scoring_seconds_{name}", time.perf_counter() - started, len(units))
    rows += [seconds, *respondents.usage_rows(name, asked_before)]
    return rows, verdicts, respondents.incomplete or incomplete


def _ask(scorer: Scorer, latent: Latent, explanations: Explanations | None, respondents: Respondents) -> _Asked:
    """The latent as the scorer sees it, and what is asked about it."""
    try:
        shown = latent if explanations is None else explained(latent, explanations)
    except Undefined as undefined:
        return undefined
    plan = planned(scorer, shown, respondents)
    return plan if isinstance(plan, Undefined) else (shown, plan)


def _reduce(scorer: Scorer, n_test: int, asked: _Asked, respondents: Respondents) -> list[TableRow]:
    """The metrics of one latent; only those of leaderboards, null, where it can't be scored."""
    try:
        if isinstance(asked, Undefined):
            raise asked
        latent, plan = asked
        responses = respondents.answer(latent, plan)
        with isolated():
            found: object = scorer.reduce(latent, plan, responses)
    except Undefined as undefined:
        also = [TableRow(metric, None, n_test, None, undefined.reason) for metric in also_of(scorer)]
        return [TableRow(scorer.metric, None, n_test, True, undefined.reason), *also]
    where = f"{type(scorer).__name__}.reduce()"
    if not isinstance(found, Sequence) or not all(isinstance(row, TableRow) for row in found):
        raise PluginError(f"{where} returned {found!r:.80}, not a list of TableRows.")
    if [row.metric for row in found].count(scorer.metric) != 1:
        raise PluginError(f"{where} gives {[row.metric for row in found]}, not its metric {scorer.metric!r} once.")
    for row in found:
        if row.value is not None and not math.isfinite(row.value):
            raise PluginError(f"{where}: {row.metric} is {row.value}. Give None and a reason.")
    return list(found)


def _table_row(found: TableRow, unit: SampledLatent, scorer: Scorer) -> dict[str, Any]:
    """`chance` marks the main metric; `lowest` and `highest` are null where the range has no end.

    Both are null for metrics that leaderboards have no line of.
    """
    is_main = found.metric == scorer.metric
    ends = {**also_of(scorer), scorer.metric: range_of(scorer)}.get(found.metric, (-math.inf, math.inf))
    lowest, highest = (end if math.isfinite(end) else None for end in ends)
    of_main = {"chance": scorer.chance if is_main else None, "lowest": lowest, "highest": highest}
    measured = asdict(replace(found, verdicts=()))  # these have a file of their own
    del measured["verdicts"]
    return {"table": "interp", **measured, **unit.columns, **of_main}
