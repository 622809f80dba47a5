"""Scores for the page: those of a decomposition's latents together, and those of each latent on its card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.planning.suite import JUDGE
from harness.tables.interpretability import FIT, SCORER, judge_too_weak, scored_units
from harness.tables.results import Results, floors_of
from harness.tables.verdicts import read_cell

if TYPE_CHECKING:
    from harness.latents.activations import PoleId

_CONTROL = "_random_explanation"
_OF_POLE = ("value", "chance", "random_explanation", "floor", "lift")
_OF_ALL = ("value", "low", "high", "n_latents", "n_undefined")


class Scores:
    """The scores of latents of all decompositions of a plan."""

    def __init__(self, plan: Plan, results: Results) -> None:
        self._suite = plan.suite
        self._verdicts = results.verdicts
        interp = results.tables["interp"]
        interp = interp[interp["latent"].notna()]
        units, lines = scored_units(interp, floors_of(plan.suite)), results.interpretability
        self._mains = _by_cell(units[units["chance"].notna()])
        self._all = _by_cell(interp)
        self._lines = {_key(line): line for line in lines[lines["chance"].notna()].to_dict("records")}
        self._judges = judged_scorers(plan)
        self._several = len(plan.suite.explainers) > 1

    def of_decomposition(self, key: str) -> list[dict[str, Any]]:
        """Every scorer's means over one decomposition's latents."""
        return [self._about(cell) for cell in self._verdicts.scored(key)]

    def of_poles(self, key: str) -> dict[PoleId, list[dict[str, Any]]]:
        """Each pole's scores, `scorer` being a place in the list that `of_decomposition` gives."""
        of_poles: dict[PoleId, list[dict[str, Any]]] = defaultdict(list)
        for place, cell in enumerate(self._verdicts.scored(key)):
            verdicts = read_cell(self._verdicts.store, cell.key)
            said, others = _by_pole(verdicts), _by_pole(self._all[cell.key])
            for main in self._mains[cell.key]:
                pole = main["latent"], main["sign"]
                score = {name: _plain(main[name]) for name in _OF_POLE} | {"reason": _plain(main["error"])}
                rest = [_other(one) for one in others[pole] if not _is_told(one["metric"], main["metric"])]
                marks = [_mark(verdict) for verdict in said[pole]]
                of_poles[pole].append({"scorer": place, **score, "others": rest, "verdicts": marks})
        return of_poles

    def _about(self, cell: Cell) -> dict[str, Any]:
        """A scorer's name and its mean on the board of interpretability; numbers are null if the board has no line."""
        columns = cell.columns
        line = self._lines.get(_key(columns), {})
        weak = line and self.too_weak(line)
        name = self._suite.label("scorer", columns)
        if self._several and columns["explainer"]:
            name += f", explained by {columns['explainer']}"
        return {
            "name": name,
            "judge": columns["judge"],
            "metric": line.get("metric"),
            **{name: _plain(line.get(name)) for name in _OF_ALL},
            "weak": weak or None,
        }

    def too_weak(self, line: Mapping[Any, Any]) -> str | None:
        """The reason why the judge of a line of `interpretability` is too weak; None if it is not or none was asked."""
        is_judged = (line["scorer"], line["scorer_config"]) in self._judges
        return judge_too_weak(line) if is_judged else None


def judged_scorers(plan: Plan) -> set[tuple[str, str]]:
    """The name and config of each scorer that asked a judge, other than as an encoder."""
    asking = (cell for cell in plan.of_kind("scoring") if cell.work.get("judge") and cell.work["encoder"] != JUDGE)
    return {(cell.columns["scorer"], cell.columns["scorer_config"]) for cell in asking}


def _key(line: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(_plain(line[name]) for name in (*FIT, *SCORER))


def _by_cell(lines: pd.DataFrame) -> dict[str, list[dict[Any, Any]]]:
    found: dict[str, list[dict[Any, Any]]] = defaultdict(list)
    for line in lines.to_dict("records"):
        found[line["cell"]].append(line)
    return found


def _by_pole(lines: Iterable[Mapping[Any, Any]]) -> dict[PoleId, list[Mapping[Any, Any]]]:
    found: dict[PoleId, list[Mapping[Any, Any]]] = defaultdict(list)
    for line in lines:
        found[line["latent"], line["sign"]].append(line)
    return found


def _is_told(metric: str, main: str) -> bool:
    """True for the main metric and its control, which are shown already."""
    return metric in (main, main + _CONTROL)


def _other(line: Mapping[Any, Any]) -> dict[str, Any]:
    return {"metric": line["metric"], "value": _plain(line["value"]), "reason": _plain(line["error"])}


def _mark(verdict: Mapping[str, Any]) -> list[Any]:
    """A verdict as a list, short because there are thousands: the window, 1 or 0 for the right answer and for the given
    one, the score, and the text shown and the reason if there are such.
    """
    said = None if verdict["says"] is None else int(verdict["says"])
    mark = [
        verdict["window"],
        int(verdict["label"]),
        said,
        _plain(verdict["score"]),
        verdict["shown"],
        verdict["reason"],
    ]
    while mark[-1] is None:
        mark.pop()
    return mark


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value
