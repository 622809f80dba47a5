"""Costs of a cell before it is done: operations, bytes and steps, by formulas of its kind and plugin.

The formulas are data, `conf/estimates/costs.yaml`: sums of products of numbers and of what is known of a cell, such as
`62*tokens*stream*stream*depth`. Their numbers were fitted to runs; a plugin without any of its own has those of its
kind.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from harness.contracts.sites import parse_site
from harness.planning.cells import Cell
from harness.planning.entries import ModelEntry
from harness.planning.plan import Plan
from harness.sae.schedule import n_passes

_VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_PLUGIN = {
    **dict.fromkeys(("fit", "latents", "circuit"), "method"),
    **{"explanation": "explainer", "scoring": "scorer", "contrast": "behaviour"},
    **{kind: kind for kind in ("evaluation", "similarity", "task")},
}
"""The column that names the plugin of a kind of cell."""
_SITE = re.compile(r"\.\d+$")


@dataclass(frozen=True)
class Cost:
    """The cost of one cell, on any machine."""

    flops: float = 0.0
    memory_traffic: float = 0.0
    """Bytes read and written in memory."""
    steps: float = 0.0
    """Steps of Python."""
    disk_bytes: float = 0.0
    memory_bytes: float = 0.0
    """Bytes that it holds while it is worked at, the process itself left out."""


@functools.cache
def _formulas() -> dict[str, Any]:
    found = files("harness.conf") / "estimates" / "costs.yaml"
    return dict(yaml.safe_load(found.read_text(encoding="utf-8")))


class Costs:
    """The costs of a plan's cells."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._models = {model.label: model for model in plan.suite.models}
        # For cells that are about several models.
        self._widest = max(plan.suite.models, key=lambda model: model.shape["width"] if model.shape else 0)
        self._found: dict[tuple[object, ...], Cost | None] = {}

    def of(self, cell: Cell, *, is_first: bool) -> Cost | None:
        """The cost of a cell; None where the width of its rows is not known before the model is loaded.

        Args:
            cell: the cell.
            is_first: it is the first of its group with this plugin, so that what they share counts as its own.
        """
        columns = (cell.columns.get(column) for column in ("model", "site", "method", "method_config"))
        alike = (name(cell), tokens(cell, self._plan), is_first, *columns)  # of a hundred thousand cells most are
        if alike not in self._found:
            known = self._known(cell)
            method = str(self._encoder(cell).columns.get("method"))
            self._found[alike] = None if known is None else _cost(cell, known | {"first": float(is_first)}, method)
        return self._found[alike]

    def of_model(self, model: ModelEntry) -> float:
        """Bytes on disk that a model takes which is made or fetched when it is first used."""
        known = _of_model(model)
        formula = _formulas()["models"].get(model.entry.name, "0")
        return value_of(formula, known) if known else 0.0

    def _encoder(self, cell: Cell) -> Cell:
        """The fit whose latents are computed for a cell: of groups of another's latents, that other's."""
        own = self._plan.cells.get(cell.work.get("base", cell.work.get("fit", "")))
        return cell if own is None else self._encoder(own)

    def _known(self, cell: Cell) -> dict[str, float] | None:
        """Everything that formulas may speak of."""
        config = self._plan.suite.config
        model = self._models.get(str(cell.columns.get("model")), self._widest)
        known = _of_model(model)
        if not known:
            return None
        site = str(cell.columns.get("site"))
        width = model.width(site) if _SITE.search(site) else known["stream"]
        if width is None:
            return None
        known["width"] = float(width)
        # A pass goes as deep as the deepest of its sites.
        read = model.sites if cell.kind == "capture" else [site]
        known["depth"] = max(parse_site(site).layer + 1.0 if _SITE.search(site) else 1.0 for site in read)
        known["rest"] = max(known.get("layers", 1.0) - known["depth"], 0.0)
        known["tokens"] = float(tokens(cell, self._plan))
        known["replays"] = float(n_passes(tokens(cell, self._plan)))
        known |= {"sampled": float(config.latents), "permutations": float(max(config.permutations, 1))}
        learnt = self._encoder(cell).columns
        said = _of_method(str(learnt.get("method")), str(learnt.get("method_config") or "{}"))
        return known | {key: value_of(value, known) for key, value in said.items()}


def _cost(cell: Cell, known: dict[str, float], method: str) -> Cost:
    formulas = _formulas()["cells"]
    chosen = formulas.get(name(cell)) or formulas.get(f"{cell.kind}/*", {})
    known["encode"] = value_of(_said_of(method)["encode"], known)
    return Cost(**{field: value_of(formula, known) for field, formula in chosen.items()})


def _said_of(method: str) -> Mapping[str, Any]:
    of_methods = _formulas()["methods"]
    return {**of_methods["*"], **of_methods.get(method, {})}


@functools.cache
def _of_method(method: str, config: str) -> dict[str, str | float]:
    """The size of a method's decomposition: numbers, or formulas."""
    params, own = json.loads(config), _said_of(method)
    return {size: own.get(size, _size(said, params)) for size, said in _formulas()["sizes"].items()}


def _size(said: Mapping[str, Any], params: Mapping[str, Any]) -> str | float:
    found = next((params[parameter] for parameter in said["parameters"] if parameter in params), said["without"])
    size: str | float = found if isinstance(found, int | float) else said.get("open", said["without"])
    return size


def _of_model(model: ModelEntry) -> dict[str, float]:
    if not model.shape:
        return {}
    stream, n_layers = float(model.shape["width"]), float(model.shape["n_layers"])
    n_bytes = _VALUE_BYTES.get(str(model.entry.params.get("dtype", "float32")), 4)
    return {"stream": stream, "layers": n_layers, "value_bytes": float(n_bytes)}


def name(cell: Cell) -> str:
    """The kind and plugin of a cell, by which its cost is known: `fit/NAME`."""
    plugin = cell.work["model"]["name"] if cell.kind == "capture" else cell.columns[_PLUGIN[cell.kind]]
    return f"{cell.kind}/{plugin}"


def tokens(cell: Cell, plan: Plan) -> int:
    """The rows that a cell reads."""
    return int(
        cell.work.get("tokens")
        or (cell.kind == "fit" and cell.columns["fit_tokens"])
        or (cell.kind in ("latents", "explanation", "scoring") and plan.suite.config.tokens.interp)
        or plan.suite.config.tokens.evaluation
    )


def value_of(formula: str | float, known: Mapping[str, float]) -> float:
    """The value of a sum of products, such as `2*tokens*width + 5e6`."""
    if not isinstance(formula, str):
        return float(formula)
    return sum(math.prod(_factor(word.strip(), known) for word in term.split("*")) for term in formula.split(" + "))


def _factor(word: str, known: Mapping[str, float]) -> float:
    return known[word] if word in known else float(word)


def of_run(n_cells: int) -> Cost:
    """The cost of a run besides its cells: starting processes, tables, the report."""
    formulas = _formulas()["run"]
    return Cost(**{field: value_of(formula, {"cells": float(n_cells)}) for field, formula in formulas.items()})
