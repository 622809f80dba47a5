"""Circuit: the latents of one method at all sites of a model that a behaviour rests on."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from harness.circuits.analysis import Analysis, Subject, analyse, solved, unclaimed
from harness.circuits.captured import Captured
from harness.circuits.nodes import Nodes
from harness.contracts.decomposition import load
from harness.contracts.runs import HasRuns
from harness.errors import Undefined
from harness.files import write_json
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.records import cost
from harness.storage.store import require

CIRCUIT = "circuit.json"


def run(cells: list[Cell], session: Session) -> None:
    """Find the circuits of one model, which is loaded once; those in the store are not looked for again."""
    with session.missing(cells) as missing:
        if not missing:
            return
        session.progress(f"loading {missing[0].columns['model']}", 0, 1)
        model: HasRuns = session.create("model", missing[0].work["model"])
        for number, cell in enumerate(missing):
            with session.alone(cell):
                try:
                    _find(cell, model, session)
                except Undefined as undefined:
                    session.skip(cell, undefined.reason)
            session.progress("circuits looked for", number + 1, len(missing))


def _find(cell: Cell, model: HasRuns, session: Session) -> None:
    started = time.perf_counter()
    with isolated():
        found = _analysis(cell.work, model, session)
    write_json(session.empty_folder(cell) / CIRCUIT, {"nodes": [asdict(node) for node in found.nodes]})
    seconds = cost("circuit_seconds", time.perf_counter() - started, len(found.findings))
    session.commit(cell, [*(finding.row() for finding in found.findings), seconds])


def _analysis(work: Any, model: HasRuns, session: Session) -> Analysis:
    """The analysis, or rows without a value where the model does not do what is asked."""
    contrasts = Captured.load(require(session.store, "contrast", work["contrast"])[0], session.device)
    pairs = contrasts.pairs
    _, reason = solved(pairs, contrasts.clean, contrasts.patch)
    if reason is not None:
        return Analysis(unclaimed(reason, len(pairs)))
    nodes = {}
    for site, key in work["fits"].items():
        values = contrasts.values[site]
        rows = values.clean[pairs.is_open.to(values.clean.device)]
        nodes[site] = Nodes(load(require(session.store, "fit", key)[0], session.device), rows)
    return analyse(Subject(pairs, model.runs, nodes, contrasts.values), work["seed"])
