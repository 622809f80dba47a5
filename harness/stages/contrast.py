"""Contrast: what a model makes of the two sides of a behaviour's pairs, at all of its sites, and the gradients between.

It serves every decomposition: a decoder that is affine has the same path between codes as between activations.
"""

from __future__ import annotations

import time
from typing import Any

from harness.circuits.analysis import Finding, solved
from harness.circuits.captured import captured
from harness.circuits.pairs import tokenised
from harness.circuits.paths import MAX_GAP, PathGradients
from harness.contracts.behaviour import Behaviour
from harness.contracts.model import RunsTexts
from harness.contracts.runs import HasRuns
from harness.errors import Undefined
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.records import cost


def run(cells: list[Cell], session: Session) -> None:
    """Capture the contrasts of one model's behaviours; those in the store are not captured again."""
    with session.missing(cells) as missing:
        if not missing:
            return
        session.progress(f"loading {missing[0].columns['model']}", 0, 1)
        model = session.create("model", missing[0].work["model"])
        for number, cell in enumerate(missing):
            with session.alone(cell):
                try:
                    _capture(cell, model, session)
                except Undefined as undefined:
                    session.skip(cell, undefined.reason)
            session.progress("behaviours captured", number + 1, len(missing))


def _capture(cell: Cell, model: Any, session: Session) -> None:
    started = time.perf_counter()
    if not isinstance(model, RunsTexts) or not isinstance(model, HasRuns):
        raise Undefined(f"{cell.columns['model']} can't be run with edits: it has no runs()")
    behaviour: Behaviour = session.create("behaviour", cell.work["behaviour"])
    with isolated():
        contrasts = list(behaviour.contrasts())
        pairs, left_out = tokenised(contrasts, model.windows, cell.work["context"])
        found, gradients = captured(model, pairs, cell.work["sites"])
    for reason, n in left_out.items():
        session.warn(f"{cell.label}: {n} of {len(contrasts)} contrasts are left out, since {reason}.")
    found.save(session.empty_folder(cell))
    n = len(pairs)
    rows = [Finding("n_pairs", n, n), Finding("n_left_out", left_out.total(), len(contrasts))]
    rows += solved(pairs, found.clean, found.patch)[0]
    rows += [row for site, own in gradients.items() for row in _of_path(site, own, n)]
    seconds = cost("contrast_seconds", time.perf_counter() - started, n)
    session.commit(cell, [*(row.row() for row in rows), seconds])


def _of_path(site: str, gradients: PathGradients, n: int) -> list[Finding]:
    said = None if gradients.gap < MAX_GAP else f"not below {MAX_GAP} after {gradients.n_steps} steps"
    return [
        Finding("attribution_gap", gradients.gap, n, False, said, site=site),
        Finding("attribution_steps", gradients.n_steps, n, site=site),
    ]
