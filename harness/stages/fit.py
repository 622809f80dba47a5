"""Fit: every learner of a site and a seed learns from a single reading of the stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from harness.capturing.activations import Stream
from harness.capturing.masking import masked_rows
from harness.contracts.decomposition import Decomposition
from harness.contracts.method import Learner
from harness.errors import StoreError, Undefined
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.feed import Fitted
from harness.fitting.together import fed_together, fit_together, stack_key
from harness.planning.cells import Cell
from harness.running.memory import PeakMemory
from harness.running.session import Session
from harness.storage.activation_store import StoredActivations
from harness.storage.records import cost, row
from harness.storage.store import require


def run(cells: list[Cell], session: Session) -> None:
    """Fit the methods that are not in the store yet, of one site and any seeds."""
    todo = {cell.key: cell for cell in session.not_made(cells)}
    if not todo:
        return
    rows = _FitRows.of(cells[0], session)
    streams = {cell.work["seed"]: rows.stream(cell.work["seed"]) for cell in todo.values()}
    learners: dict[str, Learner] = {}
    for key, cell in todo.items():
        with session.alone(cell):
            learner: Learner = session.create("method", cell.work["method"])
            stack_key(learner)  # the plugin's own code, like what made it
            learners[key] = learner
    stream_of = {key: streams[todo[key].work["seed"]] for key in learners}
    for keys in fed_together(learners, stream_of):
        with session.missing([todo[key] for key in keys]) as missing:
            own = {cell.key: learners.pop(cell.key) for cell in missing}
            if own:
                _fit(missing, own, stream_of, rows, session)


@dataclass(frozen=True)
class _FitRows:
    """The rows of a site that learners see."""

    activations: StoredActivations
    keep: Int[Tensor, " n"]

    @classmethod
    def of(cls, cell: Cell, session: Session) -> _FitRows:
        activations = StoredActivations(*require(session.store, "capture", cell.work["capture"]))
        keep = (~masked_rows(activations, activations, cell.work["max_norm_multiple"])).nonzero().flatten()
        if not len(keep):
            raise StoreError("every fit row is masked; check max_norm_multiple and the model's activations.")
        n_broken = int((~torch.isfinite(activations.norms)).sum())
        if n_broken:
            broken = f"{n_broken} of {activations.n_rows} rows hold NaN or infinite values and are masked"
            session.warn(f"{cell.label}, and all of its site: {broken}")
        return cls(activations, keep)

    def stream(self, seed: int) -> Stream:
        return Stream(self.activations, self.keep, seed)


def _fit(
    cells: list[Cell],
    learners: Mapping[str, Learner],
    stream_of: Mapping[str, Stream],
    rows: _FitRows,
    session: Session,
) -> None:
    checkpoints = Checkpoints(partial(session.store.checkpoint, "fit"), session.warn)
    memory = PeakMemory(session.device.type)
    fitted = fit_together(learners, stream_of, session.device, session.progress, checkpoints=checkpoints)
    peak_bytes = memory.read()
    for cell in cells:
        for warning in fitted[cell.key].warnings:
            session.warn(f"{cell.label}: {warning}")
        _end(cell, fitted[cell.key], rows.activations, len(rows.keep), peak_bytes, session)
        checkpoints.discard(cell.key)


def _end(
    cell: Cell,
    fitted: Fitted,
    activations: StoredActivations,
    n_distinct: int,
    peak_bytes: int | None,
    session: Session,
) -> None:
    if isinstance(fitted.error, Undefined):
        session.skip(cell, fitted.error.reason)
        return
    if fitted.error is not None or fitted.decomposition is None:
        session.fail(cell, fitted.error or StoreError("no decomposition"), fitted.traceback)
        return
    fitted.decomposition.tokenizer_hash = activations.manifest["tokenizer_hash"]
    with session.alone(cell):
        fitted.decomposition.save(session.empty_folder(cell), cell.work["method"]["name"])
        rows = _cost_rows(fitted, fitted.decomposition, n_distinct, activations.n_rows - n_distinct, peak_bytes)
        code = session.catalog.find("method", cell.work["method"]["name"]).version
        session.commit(cell, rows, provenance={**session.provenance(), "plugin_code": code})


def _cost_rows(
    fitted: Fitted, decomposition: Decomposition, n_distinct: int, n_masked: int, peak_bytes: int | None
) -> list[dict[str, Any]]:
    n = fitted.rows_seen
    n_parameters = sum(tensor.numel() for tensor in decomposition.state()[0].values())
    own = [
        row("cost", name, value, n, higher_is_better=None, reason="did not come about" if value is None else None)
        for name, value in decomposition.report().items()
    ]
    shared = "of the whole pass, shared by its learners" if peak_bytes else "not measurable here"
    in_stack = [("stacked_learners", fitted.n_stacked)] if fitted.n_stacked > 1 else []
    return [
        row("cost", "masked_rows", n_masked, n, higher_is_better=None),
        cost("fit_seconds", fitted.fit_seconds, n),
        cost("fit_cpu_seconds", fitted.fit_cpu_seconds, n),
        cost("tokens_seen", n, n),
        cost("tokens_distinct", n_distinct, n),
        cost("state_bytes", fitted.state_bytes, n),
        cost("parameters", n_parameters, n),
        cost("fit_peak_memory_bytes", peak_bytes, n, shared),
        *(row("cost", name, value, n, higher_is_better=None) for name, value in in_stack),
        *own,
    ]
