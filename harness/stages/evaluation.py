"""Evaluation: judge one decomposition on rows of documents that it was not fitted on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.activation_store import StoredActivations, masked_rows
from harness.activations import BLOCK_ROWS
from harness.cells import Cell
from harness.contracts import EvaluationContext, TableRow
from harness.decomposition import Decomposition, load
from harness.errors import PluginError
from harness.isolation import isolated
from harness.session import Session, cost
from harness.store import require


def run(cells: list[Cell], session: Session) -> None:
    """Evaluate decompositions on the rows they share."""
    context = _context(cells[0].task, session)
    for number, cell in enumerate(cells):
        with session.alone(cell):
            decomposition = load(require(session.store, "fit", cell.task["fit"])[0], session.device)
            call = cell.task["evaluation"]
            absent = _absent(session.catalog.find("evaluation", call["name"]).spec.needs, decomposition)
            if absent:
                session.skip(cell, f"{call['name']} needs {', '.join(absent)}, which {cell.columns['method']} lacks")
            else:
                session.done(cell, _rows(call, decomposition, context, session))
        session.progress("evaluated", number + 1, len(cells))


def _context(task: Any, session: Session) -> EvaluationContext:
    activations = StoredActivations(*require(session.store, "capture", task["capture"]))
    fit = StoredActivations(*require(session.store, "capture", task["fit_capture"]))
    masked = masked_rows(activations, fit, task["max_norm_multiple"])

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, activations.n_rows, BLOCK_ROWS):
            index = torch.arange(start, min(start + BLOCK_ROWS, activations.n_rows))
            yield activations.take(index).to(session.device), masked[index].to(session.device)

    numbers = torch.from_numpy(pd.factorize(activations.rows["document"])[0])
    return EvaluationContext(activations.n_rows, activations.width, blocks, numbers)


def _absent(needs: Iterable[str], decomposition: Decomposition) -> list[str]:
    """What an evaluation needs and does not get."""
    offered = {"dictionary": decomposition.dictionary is not None, "atoms": decomposition.atoms is not None}
    return [need for need in needs if not offered.get(need)]


def _rows(
    call: Any, decomposition: Decomposition, context: EvaluationContext, session: Session
) -> list[dict[str, Any]]:
    started = time.perf_counter()
    evaluation = session.create("evaluation", call)
    with isolated():
        found = evaluation.evaluate(decomposition, context)
    seconds = time.perf_counter() - started
    if not isinstance(found, Iterable) or not all(isinstance(row, TableRow) for row in found):
        raise PluginError(f"evaluation {call['name']}: evaluate() returned {found!r:.80}, not a list of TableRows.")
    rows = [{"table": call["name"], **asdict(row)} for row in found]
    for row in rows:
        if row["value"] is not None and not math.isfinite(row["value"]):
            raise PluginError(f"evaluation {call['name']}: {row['metric']} is {row['value']}. Give None and a reason.")
    return [*rows, cost(f"evaluation_seconds_{call['name']}", seconds, context.n_rows)]
