"""Latents: the activations of a decomposition's latents on texts that it was not fitted on, and a sample of cards."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from harness.contracts.decomposition import Decomposition, load
from harness.contracts.grouped import GroupedDecomposition
from harness.errors import Undefined
from harness.files import write_json
from harness.latents.groups import read_latents
from harness.latents.reading import ACTIVATIONS, CARDS, Reading
from harness.latents.sampling import UNSHOWN, Strata, stratify
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.records import cost, row
from harness.storage.store import require


def run(cells: list[Cell], session: Session) -> None:
    """Read the latents of decompositions, all on the same rows; those in the store are not read again."""
    with session.missing(cells) as missing:
        if not missing:
            return
        try:
            reading = Reading(missing[0].work, session.store, session.create)
        except Undefined as undefined:
            for cell in missing:
                session.skip(cell, undefined.reason)
            return
        for number, cell in enumerate(missing):
            with session.alone(cell):
                try:
                    _read(cell, reading, session)
                except Undefined as undefined:
                    session.skip(cell, undefined.reason)
            session.progress("decompositions read", number + 1, len(missing))


def _read(cell: Cell, reading: Reading, session: Session) -> None:
    started = time.perf_counter()
    folder = session.empty_folder(cell)
    decomposition = load(require(session.store, "fit", cell.work["fit"])[0], session.device)
    with isolated():
        activations = read_latents(decomposition, reading.rows, reading.masked, session.device)
    activations.save(folder / ACTIVATIONS)
    positive, negative = activations.density.T  # as in POLES
    if decomposition.signed and positive.any() and not negative.any():
        session.warn(
            f"{cell.columns['method']}: signed, but no code is negative on the rows that latents are read on: of every "
            "latent the negative pole counts as dead. If codes never are, set signed = False in the decomposition."
        )
    strata = stratify(activations, reading.windows, decomposition.signed)
    maker = reading.maker(decomposition, activations, strata, cell.work["seed"])
    poles = strata.draw(cell.work["n_latents"], cell.work["seed"])
    content = {
        "units": strata.counts,
        "latents": strata.latent_counts,
        "n_rows": reading.rows.n_rows,
        "n_documents": len(set(reading.windows.document_of_row)),
        "signed": decomposition.signed,
        **_groups(decomposition),
        "cards": maker.make({(pole.index, pole.sign): pole.weight for pole in poles}),
    }
    write_json(folder / CARDS, content)
    seconds = time.perf_counter() - started
    session.commit(cell, [*_rows(strata), cost("latents_seconds", seconds, reading.rows.n_rows)])


def _groups(decomposition: Decomposition) -> dict[str, Any]:
    """The members of all groups, and how often latents were grouped; nothing where latents are no groups."""
    if not isinstance(decomposition, GroupedDecomposition):
        return {}
    members = [decomposition.members(group) for group in range(decomposition.n_latents)]
    listed = [[{"index": one.latent, "sign": one.sign, "weight": one.weight} for one in group] for group in members]
    return {"depth": decomposition.depth, "groups": listed}


def _rows(strata: Strata) -> list[dict[str, Any]]:
    counted = {"latents": strata.latent_counts, "poles": strata.counts}
    n = strata.counts["total"]
    reason = None if n else "there are no latents"
    return [
        row("interp", "units", n, n, None),
        *(
            row("interp", f"{name}_share_of_{units}", _share(counts, name), counts["total"], False, reason)
            for name in UNSHOWN
            for units, counts in counted.items()
        ),
    ]


def _share(counts: Mapping[str, int], name: str) -> float | None:
    return counts[name] / counts["total"] if counts["total"] else None
