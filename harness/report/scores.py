"""What the page says of scores: of a decomposition's latents together, and of each on its card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import pandas as pd

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.planning.suite import JUDGE
from harness.tables.interpretability import FIT, SCORER, judge_too_weak, scored_units
from harness.tables.results import Results, floors_of

Unit: TypeAlias = tuple[int, int]
"""A latent's number and sign."""
_CONTROL = "_random_explanation"
_OF_UNIT = ("value", "chance", "random_explanation", "floor", "lift")
_OF_ALL = ("value", "low", "high", "n_latents", "n_undefined")


class Scores:
    """Of all decompositions of a plan."""

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

    def of_latents(self, key: str) -> tuple[list[dict[str, Any]], dict[Unit, list[dict[str, Any]]]]:
        """What each scorer says of them together; and of every unit its scores, `scorer` being a place in that list."""
        about: list[dict[str, Any]] = []
        of_units: dict[Unit, list[dict[str, Any]]] = defaultdict(list)
        for cell, verdicts in self._verdicts.of_latents(key):
            said, others = _by_unit(verdicts), _by_unit(self._all[cell.key])
            for main in self._mains[cell.key]:
                unit = main["latent"], main["sign"]
                score = {name: _plain(main[name]) for name in _OF_UNIT} | {"reason": _plain(main["error"])}
                rest = [_other(one) for one in others[unit] if not _is_told(one["metric"], main["metric"])]
                marks = [_mark(verdict) for verdict in said[unit]]
                of_units[unit].append({"scorer": len(about), **score, "others": rest, "verdicts": marks})
            about.append(self._about(cell))
        return about, of_units

    def _about(self, cell: Cell) -> dict[str, Any]:
        """A scorer's name, and the mean that boards have of it; numbers are null where the cell has no line there."""
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
        """Why the judge that a line of `interpretability` asked tells nothing there, if it asked one."""
        is_judged = (line["scorer"], line["scorer_config"]) in self._judges
        return judge_too_weak(line) if is_judged else None


def judged_scorers(plan: Plan) -> set[tuple[str, str]]:
    """The scorers that asked a judge, and not as an encoder, by name and config."""
    asking = (cell for cell in plan.of_kind("scoring") if cell.work.get("judge") and cell.work["encoder"] != JUDGE)
    return {(cell.columns["scorer"], cell.columns["scorer_config"]) for cell in asking}


def _key(line: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(_plain(line[name]) for name in (*FIT, *SCORER))


def _by_cell(lines: pd.DataFrame) -> dict[str, list[dict[Any, Any]]]:
    found: dict[str, list[dict[Any, Any]]] = defaultdict(list)
    for line in lines.to_dict("records"):
        found[line["cell"]].append(line)
    return found


def _by_unit(lines: Iterable[Mapping[Any, Any]]) -> dict[Unit, list[Mapping[Any, Any]]]:
    found: dict[Unit, list[Mapping[Any, Any]]] = defaultdict(list)
    for line in lines:
        found[line["latent"], line["sign"]].append(line)
    return found


def _is_told(metric: str, main: str) -> bool:
    """Whether a metric stands beside the main one already."""
    return metric in (main, main + _CONTROL)


def _other(line: Mapping[Any, Any]) -> dict[str, Any]:
    return {"metric": line["metric"], "value": _plain(line["value"]), "reason": _plain(line["error"])}


def _mark(verdict: Mapping[str, Any]) -> list[Any]:
    """As short as may be, there are thousands: the window, 1 or 0 for what was right and what was said, the score, and
    what was shown and the reason where there are such.
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
