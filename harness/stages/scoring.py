"""Scoring: how well the sampled latents of a decomposition can be understood."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from harness.asking.respondents import Respondents, planned
from harness.contracts.latent import Latent
from harness.contracts.requests import Bounded, Request
from harness.contracts.scorer import Scorer, also_of, range_of
from harness.contracts.table_row import TableRow, checked_rows
from harness.errors import PluginError, Undefined
from harness.latents.explanations import Explanations, explained, read_explanations
from harness.latents.sampled_latents import SampledLatent, SampledLatents
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.records import cost
from harness.storage.store import require
from harness.tables.verdicts import write_cell

BOUNDED = "bounded"
"""The metric that says what share of answers are bounds."""
_Asked: TypeAlias = tuple[Latent, list[Request]] | Undefined
"""A latent as its scorer sees it, with the requests about it; or the reason why there are none."""


def run(cells: list[Cell], session: Session) -> None:
    """Score the sampled latents of decompositions; texts that were embedded for one cell are there for the next."""
    sampled, respondents = SampledLatents(session.store), Respondents(cells[0].work, session)
    for number, cell in enumerate(cells):
        with session.alone(cell):
            name, method = cell.work["scorer"]["name"], cell.columns["method"]
            poles = sampled.of(cell.work)
            if not poles:
                session.skip(cell, f"no latent of {method} has enough windows to be scored")
            elif _needs_atoms(cell.work["scorer"], session) and not any(pole.latent.source for pole in poles):
                session.skip(cell, f"{name} needs atoms that were taken from a text, which {method} lacks")
            else:
                respondents.turn_to(cell)
                try:
                    rows, verdicts, incomplete = _rows(cell.work, poles, respondents, session)
                    digest = write_cell(session.store, cell.key, verdicts)  # first: a record says that all is there
                    session.done(cell, rows, incomplete=incomplete, verdicts=digest)
                except Undefined as undefined:
                    session.skip(cell, f"{name}: {undefined.reason}")
        session.progress("scored", number + 1, len(cells))


def _needs_atoms(scorer: Mapping[str, Any], session: Session) -> bool:
    return "atoms" in session.catalog.needs("scorer", **scorer)


Rows: TypeAlias = list[dict[str, Any]]


def _rows(
    work: Mapping[str, Any], poles: Sequence[SampledLatent], respondents: Respondents, session: Session
) -> tuple[Rows, Rows, str | None]:
    """Table rows, verdicts on single windows, and words for answers that both lack and a later run may get."""
    started = time.perf_counter()
    name = work["scorer"]["name"]
    scorer: Scorer = session.create("scorer", work["scorer"])
    explanations = incomplete = None
    if "explanation" in work:
        _, manifest = require(session.store, "explanation", work["explanation"])
        explanations = read_explanations(session.store, work["explanation"])
        incomplete = manifest.get("incomplete") and f"of the explanations: {manifest['incomplete']}"
    asked = [_ask(scorer, pole.latent, explanations, respondents) for pole in poles]
    pairs = [one for one in asked if not isinstance(one, Undefined)]
    respondents.prepare([(latent, request) for latent, plan in pairs for request in plan])
    rows, verdicts = [], []
    for pole, one in zip(poles, asked, strict=True):
        for found in _reduce(scorer, len(pole.latent.test), one, respondents):
            rows.append(_table_row(found, pole, scorer))
            of_pole = {name: pole.columns[name] for name in ("latent", "sign")}
            verdicts += [of_pole | pole.places.row(verdict) for verdict in found.verdicts]
    seconds = cost(f"scoring_seconds_{name}", time.perf_counter() - started, len(poles))
    rows += [seconds, *respondents.usage_rows(name)]
    return rows, verdicts, respondents.incomplete or incomplete


def _ask(scorer: Scorer, latent: Latent, explanations: Explanations | None, respondents: Respondents) -> _Asked:
    """Plan the requests about one latent, shown with its explanation where there are explanations."""
    try:
        shown = latent if explanations is None else explained(latent, explanations)
    except Undefined as undefined:
        return undefined
    plan = planned(scorer, shown, respondents)
    return plan if isinstance(plan, Undefined) else (shown, plan)


def _reduce(scorer: Scorer, n_test: int, asked: _Asked, respondents: Respondents) -> list[TableRow]:
    """The rows of one latent; where it can't be scored, nulls for the metrics of leaderboards only."""
    where = f"{type(scorer).__name__}.reduce()"
    try:
        if isinstance(asked, Undefined):
            raise asked
        latent, plan = asked
        responses = respondents.answer(latent, plan)
        with isolated():
            found = checked_rows(scorer.reduce(latent, plan, responses), where)
        found += _bounded(responses)
    except Undefined as undefined:
        also = [TableRow(metric, None, n_test, None, undefined.reason) for metric in also_of(scorer)]
        return [TableRow(scorer.metric, None, n_test, True, undefined.reason), *also]
    if [row.metric for row in found].count(scorer.metric) != 1:
        raise PluginError(f"{where} gives {[row.metric for row in found]}, not its metric {scorer.metric!r} once.")
    return found


def _bounded(responses: Sequence[Any]) -> list[TableRow]:
    """The share of the judge's answers that are bounds; no row where none is."""
    n_bounded = sum(isinstance(response, Bounded) for response in responses)
    return [TableRow(BOUNDED, n_bounded / len(responses), len(responses))] if n_bounded else []


def _table_row(found: TableRow, pole: SampledLatent, scorer: Scorer) -> dict[str, Any]:
    """Complete a row by the columns of its latent, its metric's chance and the ends of its range.

    `chance` is null but for the main metric; `lowest` and `highest` are null where the range has no end, and for
    metrics that leaderboards have no line of.
    """
    is_main = found.metric == scorer.metric
    ends = {**also_of(scorer), scorer.metric: range_of(scorer)}.get(found.metric, (-math.inf, math.inf))
    lowest, highest = (end if math.isfinite(end) else None for end in ends)
    of_main = {"chance": scorer.chance if is_main else None, "lowest": lowest, "highest": highest}
    measured = asdict(replace(found, verdicts=()))  # these have a file of their own
    del measured["verdicts"]
    return {"table": "interp", **measured, **pole.columns, **of_main}
