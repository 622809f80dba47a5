"""Scoring: how well the sampled latents of a decomposition can be understood."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from harness.cells import Cell
from harness.contracts import TableRow
from harness.decomposition import load
from harness.errors import PluginError, Undefined
from harness.isolation import isolated
from harness.latents.cards import Card, latent_of, window_of
from harness.latents.reading import CARDS
from harness.respondents import Respondents
from harness.scorers import Latent, Request, range_of
from harness.session import Session, cost
from harness.store import require
from harness.verdicts import Places, write_cell


def run(cells: list[Cell], session: Session) -> None:
    """Score the latents of decompositions; what was embedded for one cell is there for the next."""
    sampled, respondents = _Sampled(session), Respondents(cells[0].task, session)
    for number, cell in enumerate(cells):
        with session.alone(cell):
            name, method = cell.task["scorer"]["name"], cell.columns["method"]
            units = sampled.units(cell.task)
            if not units:
                session.skip(cell, f"no latent of {method} has enough windows to be scored")
            elif _needs_atoms(cell.task["scorer"], session) and not any(unit.latent.source for unit in units):
                session.skip(cell, f"{name} needs atoms that were taken from a text, which {method} lacks")
            else:
                respondents.turn_to(cell.task["fit"])
                try:
                    rows, verdicts = _rows(cell.task["scorer"], units, respondents, session)
                    write_cell(session.store, cell.key, verdicts)  # first: a record says that all of a cell is there
                    session.done(cell, rows)
                except Undefined as undefined:
                    session.skip(cell, f"{name}: {undefined.reason}")
        session.progress("scored", number + 1, len(cells))


@dataclass(frozen=True)
class _Unit:
    """A pole of a latent, and the columns of its table rows."""

    latent: Latent
    columns: dict[str, Any]
    places: Places


class _Sampled:
    """The units of one decomposition at a time: its scorers follow each other in a plan."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._key: tuple[str, int] | None = None
        self._units: list[_Unit] = []

    def units(self, task: Any) -> list[_Unit]:
        """The units that a scoring cell is about, for its scorer to spoil."""
        if self._key != (key := (task["latents"], task["seed"])):
            folder, _ = require(self._session.store, "latents", task["latents"])
            cards = json.loads((folder / CARDS).read_text())["cards"]
            dictionary = load(require(self._session.store, "fit", task["fit"])[0]).dictionary
            self._units = [_unit(card, cards, dictionary, task["seed"]) for card in cards]
            self._key = key
        return [replace(unit, latent=_fresh(unit.latent)) for unit in self._units]


def _fresh(latent: Latent) -> Latent:
    """The same with nothing shared that code could change, not even by force."""
    return replace(
        latent,
        explain=tuple(map(replace, latent.explain)),
        test=tuple(map(replace, latent.test)),
        near_explain=tuple(map(replace, latent.near_explain)),
        near_test=tuple(map(replace, latent.near_test)),
        direction=None if latent.direction is None else latent.direction.clone(),
        other=None if latent.other is None else _fresh(latent.other),
    )


def _unit(card: Card, cards: Sequence[Card], dictionary: Tensor | None, seed: int) -> _Unit:
    def latent(own: Card, other: Latent | None = None) -> Latent:
        return latent_of(own, None if dictionary is None else dictionary[own["index"]], other)

    other = _other(card, cards, seed)
    columns = {"latent": card["index"], **{name: card[name] for name in ("sign", "stratum", "weight", "density")}}
    whole = latent(card, None if other is None else latent(other))
    return _Unit(whole, columns, Places([window_of(item) for item in card["test"]]))


def _other(card: Card, cards: Sequence[Card], seed: int) -> Card | None:
    """Another latent, not the same one's other pole; the seed decides, for each unit on its own."""
    others = [candidate for candidate in cards if candidate["index"] != card["index"]]
    digest = hashlib.sha256(f"{seed}/other/{card['index']}/{card['sign']}".encode()).digest()
    return others[int.from_bytes(digest[:8], "big") % len(others)] if others else None


def _needs_atoms(scorer: Mapping[str, Any], session: Session) -> bool:
    return "atoms" in session.catalog.needs("scorer", **scorer)


Rows: TypeAlias = list[dict[str, Any]]


def _rows(call: Any, units: Sequence[_Unit], respondents: Respondents, session: Session) -> tuple[Rows, Rows]:
    """Those of the table, and the verdicts on single windows."""
    started, asked_before = time.perf_counter(), respondents.usage
    scorer = session.create("scorer", call)
    plans = [_plan(scorer, unit.latent, respondents) for unit in units]
    pairs = [(unit.latent, plan) for unit, plan in zip(units, plans, strict=True) if not isinstance(plan, Undefined)]
    respondents.prepare([(latent, request) for latent, plan in pairs for request in plan])
    rows, verdicts = [], []
    for unit, plan in zip(units, plans, strict=True):
        for found in _reduce(scorer, unit.latent, plan, respondents):
            rows.append(_table_row(found, unit, scorer))
            of_unit = {name: unit.columns[name] for name in ("latent", "sign")}
            verdicts += [of_unit | unit.places.row(verdict) for verdict in found.verdicts]
    seconds = cost(f"scoring_seconds_{call['name']}", time.perf_counter() - started, len(units))
    return [*rows, seconds, *respondents.usage_rows(call["name"], asked_before)], verdicts


def _plan(scorer: Any, latent: Latent, respondents: Respondents) -> list[Request] | Undefined:
    try:
        with isolated():
            plan = scorer.plan(latent)
    except Undefined as undefined:
        return undefined
    if not isinstance(plan, list) or not all(map(respondents.knows, plan)):
        raise PluginError(
            f"{type(scorer).__name__}.plan() returned {plan!r:.80}, not a list of requests such as Embed."
        )
    return plan


def _reduce(scorer: Any, latent: Latent, plan: list[Request] | Undefined, respondents: Respondents) -> list[TableRow]:
    """The metrics of one latent; only the main one, null, where it can't be scored."""
    try:
        if isinstance(plan, Undefined):
            raise plan
        responses = respondents.answer(latent, plan)
        with isolated():
            found = scorer.reduce(latent, plan, responses)
    except Undefined as undefined:
        return [TableRow(scorer.metric, None, len(latent.test), True, undefined.reason)]
    where = f"{type(scorer).__name__}.reduce()"
    if not isinstance(found, list) or not all(isinstance(row, TableRow) for row in found):
        raise PluginError(f"{where} returned {found!r:.80}, not a list of TableRows.")
    if [row.metric for row in found].count(scorer.metric) != 1:
        raise PluginError(f"{where} gives {[row.metric for row in found]}, not its metric {scorer.metric!r} once.")
    for row in found:
        if row.value is not None and not math.isfinite(row.value):
            raise PluginError(f"{where}: {row.metric} is {row.value}. Give None and a reason.")
    return found


def _table_row(found: TableRow, unit: _Unit, scorer: Any) -> dict[str, Any]:
    """`chance` marks the main metric; `lowest` and `highest` are null where the range has no end."""
    is_main = found.metric == scorer.metric
    limits = [end if is_main and math.isfinite(end) else None for end in range_of(scorer)]
    of_main = {"chance": scorer.chance if is_main else None, "lowest": limits[0], "highest": limits[1]}
    measured = asdict(replace(found, verdicts=()))  # these have a file of their own
    del measured["verdicts"]
    return {"table": "interp", **measured, **unit.columns, **of_main}
