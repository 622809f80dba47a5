"""Fit: every learner of a site and a seed learns from a single reading of the rows.

Where rows are not stored, the learners of all sites of a pass learn while these are captured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from traceback import format_exc
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from harness.capturing.activations import Stream
from harness.capturing.masking import masked_rows
from harness.capturing.texts import Texts
from harness.contracts.decomposition import Decomposition, load
from harness.contracts.method import Learner
from harness.contracts.model import Capture, Model, RunsTexts
from harness.errors import HarnessError, PluginError, StoreError, Undefined
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.feed import Fitted, distinct
from harness.fitting.flow import Flow, FlowingRows
from harness.fitting.together import fed_together, fit_in_steps, fit_together, in_step, stack_key
from harness.planning.cells import Cell
from harness.planning.keys import content_key
from harness.running.memory import PeakMemory
from harness.running.session import Session
from harness.storage.activation_store import StoredActivations
from harness.storage.records import cost, row
from harness.storage.store import require

_NO_ROOM = (
    "max_held_gb has no room for the rows that waited for their turn, so texts were read more often than once a "
    "pass. Give more, or a smaller shuffle_characters."
)


def run(cells: list[Cell], session: Session) -> None:
    """Fit the methods that are not in the store yet, with any seeds: of one site, or of all sites of one pass."""
    of_site: dict[str, list[Cell]] = {}
    for cell in session.not_made(cells):
        of_site.setdefault(cell.work["capture"], []).append(cell)
    sites = [site for own in of_site.values() if (site := _open(own, session))]
    for site in sites:
        if site.activations.has_rows:
            _fit_stored(site, session)
    if passing := [site for site in sites if not site.activations.has_rows]:
        _fit_passing(passing, session)


@dataclass
class _Site:
    """A site whose rows learners see, and the learners that are still to learn from them."""

    cells: dict[str, Cell]
    learners: dict[str, Learner]
    activations: StoredActivations
    keep: Int[Tensor, " n"]
    streams: dict[str, Stream]
    """The stream of each learner; learners of one seed share one."""
    bases: dict[str, Decomposition]
    """The fit that a learner learns from, where it learns from one."""

    @property
    def work(self) -> Mapping[str, Any]:
        """The instructions of any of the cells, for what they have in common."""
        return next(iter(self.cells.values())).work


def _open(cells: list[Cell], session: Session) -> _Site | None:
    """The site of some cells, and their learners; what fails here is recorded, and None if nothing is left."""
    learners: dict[str, Learner] = {}
    bases: dict[str, Decomposition] = {}
    for cell in cells:
        with session.alone(cell):
            learner: Learner = session.create("method", cell.work["method"])
            stack_key(learner)  # the plugin's own code, like what made it
            if "base" in cell.work:
                bases[cell.key] = load(require(session.store, "fit", cell.work["base"])[0], session.device)
            learners[cell.key] = learner
    todo = {cell.key: cell for cell in cells if cell.key in learners}
    try:
        activations, keep = _fit_rows(cells[0], session)
    except HarnessError as error:
        for cell in todo.values():
            session.fail(cell, error, format_exc())
        return None
    within = cells[0].work.get("shuffle_characters")
    seeds = dict.fromkeys(cell.work["seed"] for cell in todo.values())
    stream_of = {seed: Stream(activations, keep, seed, shuffle_characters=within) for seed in seeds}
    streams = {key: stream_of[cell.work["seed"]] for key, cell in todo.items()}
    return _Site(todo, learners, activations, keep, streams, bases)


def _fit_rows(cell: Cell, session: Session) -> tuple[StoredActivations, Int[Tensor, " n"]]:
    """The rows of a cell's site, and the places of those that are not masked."""
    activations = StoredActivations(*require(session.store, "capture", cell.work["capture"]))
    keep = (~masked_rows(activations, activations, cell.work["max_norm_multiple"])).nonzero().flatten()
    if not len(keep):
        raise StoreError("every fit row is masked; check max_norm_multiple and the model's activations.")
    n_broken = int((~torch.isfinite(activations.norms)).sum())
    if n_broken:
        broken = f"{n_broken} of {activations.n_rows} rows hold NaN or infinite values and are masked"
        session.warn(f"{cell.label}, and all of its site: {broken}")
    return activations, keep


def _fit_stored(site: _Site, session: Session) -> None:
    """Fit from stored rows, which are read once for the learners of each stream."""
    for keys in fed_together(site.learners, site.streams):
        with session.missing([site.cells[key] for key in keys]) as missing:
            learners = {cell.key: site.learners.pop(cell.key) for cell in missing}
            if learners:
                checkpoints = _checkpoints(session)
                memory = PeakMemory(session.device.type)
                fitted = fit_together(
                    learners, site.streams, session.device, session.progress, checkpoints=checkpoints, bases=site.bases
                )
                _end_all(site, fitted, memory.read(), checkpoints, session)


def _fit_passing(sites: list[_Site], session: Session) -> None:
    """Fit from rows that are not stored, for all sites at once, while the model that they are of reads the texts."""
    with session.missing([cell for site in sites for cell in site.cells.values()]) as missing:
        keys = {cell.key for cell in missing}
        for site in sites:
            site.learners = {key: learner for key, learner in site.learners.items() if key in keys}
        sites = [site for site in sites if site.learners]
        if not sites:
            return
        flow = _flow(sites, session)
        memory = PeakMemory(session.device.type)
        supplies = [_supplies(flow, site, session) for site in sites]
        checkpoints = [_checkpoints(session) for _ in sites]  # each has its own time to save
        fits = [
            fit_in_steps(site.learners, site.streams, supply_of, session.device, checkpoints=own, bases=site.bases)
            for site, supply_of, own in zip(sites, supplies, checkpoints, strict=True)
        ]
        fitted = in_step(fits, session.progress)
        peak_bytes = memory.read()
        if flow.lacks_room and "shuffle_characters" in sites[0].work:
            session.warn(_NO_ROOM)
        for site, outcome, own in zip(sites, fitted, checkpoints, strict=True):
            _end_all(site, outcome, peak_bytes, own, session)
        flow.forget()


def _flow(sites: list[_Site], session: Session) -> Flow:
    source = sites[0].work["source"]
    session.progress(f"loading {next(iter(sites[0].cells.values())).columns['model']}", 0, 1)
    model: Model = session.create("model", source["model"])
    if not isinstance(model, RunsTexts):
        raise PluginError(f"{type(model).__name__} ran texts when its rows were captured, and no longer does.")
    captured = {site.work["site"]: site.activations for site in sites}
    for activations in captured.values():  # the rows of a pass are the same ones at all its sites
        activations.rows = sites[0].activations.rows
    texts, n_rows = Texts(session.create, model, source), sites[0].activations.n_rows

    def read(is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, Capture]]:
        chunks = texts.chunks(list(captured), lambda place: is_wanted(place.number), n_rows)
        return ((place.number, chunk) for place, chunk in chunks)

    return Flow(read, captured, source["max_held_gb"] * 1e9)


def _supplies(flow: Flow, site: _Site, session: Session) -> dict[int, FlowingRows]:
    """The rows of each stream of a site, by its id."""
    made = {}
    for stream in distinct(site.streams[key] for key in site.learners):
        of_mean = {name: site.work.get(name) for name in ("capture", "max_norm_multiple", "shuffle_characters")}
        mean_file = session.store.checkpoint("fit", content_key({"mean": of_mean, "seed": stream.seed}))
        made[id(stream)] = flow.supply(site.work["site"], stream, session.device, mean_file)
    return made


def _checkpoints(session: Session) -> Checkpoints:
    return Checkpoints(partial(session.store.checkpoint, "fit"), session.warn)


def _end_all(
    site: _Site, fitted: Mapping[str, Fitted], peak_bytes: int | None, checkpoints: Checkpoints, session: Session
) -> None:
    for key, own in fitted.items():
        for warning in own.warnings:
            session.warn(f"{site.cells[key].label}: {warning}")
        _end(site.cells[key], own, site.activations, len(site.keep), peak_bytes, session)
        checkpoints.discard(key)


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
