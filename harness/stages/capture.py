"""Capture: one forward pass over a split of the corpus fills the store for every site asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from safetensors import safe_open
from torch import Tensor

from harness.capturing.draws import drawn_place
from harness.capturing.kept_mean import PassingMean
from harness.capturing.masking import typical_norm
from harness.capturing.splits import in_split
from harness.capturing.texts import Texts
from harness.contracts.model import Capture, HasOwnRows, Model, RunsTexts
from harness.errors import ConfigError, PluginError, StoreError
from harness.planning.cells import Cell
from harness.running.memory import PeakMemory
from harness.running.session import Session
from harness.storage.activation_store import n_documents, shard_name, write_mean, write_shard
from harness.storage.records import cost
from harness.storage.unstored import IDENTITY_BYTES

_MOST_IN_COMMON = 0.25
"""The share of the documents, all in a draw, from which on draws of two seeds are too much alike."""


def run(cells: list[Cell], session: Session) -> None:
    """Capture the sites of one pass that are not in the store yet."""
    with session.missing(cells) as missing:
        if missing:
            _capture(missing, session)


def _capture(cells: list[Cell], session: Session) -> None:
    session.progress(f"loading {cells[0].columns['model']}", 0, 1)
    model: Model = session.create("model", cells[0].work["model"])
    together = _Pass(cells, session, model)
    together.check_disk(float(cells[0].work["max_disk_gb"]))
    try:
        together.run()
    except ConfigError:  # a site that this model has not got, found out by running it, costs no other site
        if len(cells) == 1:
            raise
        for cell in cells:
            with session.alone(cell):
                _Pass([cell], session, model).run()


class _Pass:
    """One forward pass over a split for several sites."""

    def __init__(self, cells: list[Cell], session: Session, model: Model) -> None:
        self.cells, self.session, self.work, self.model = cells, session, cells[0].work, model
        self.n_tokens = int(self.work["tokens"])
        self.folders = {cell.work["site"]: session.store.work_folder("capture", cell.key) for cell in cells}
        self.store_rows = bool(self.work.get("store_rows", True))
        self.means = {site: PassingMean(self.work["max_norm_multiple"]) for site in self.unstored}
        self.n_drawn_from: Callable[[], int] = lambda: 0

    @property
    def unstored(self) -> list[str]:
        """The sites whose rows are not stored: all or none."""
        return [] if self.store_rows else list(self.folders)

    def run(self) -> None:
        self.started = time.perf_counter()  # loading the model, or converting it once, is no cost of its activations
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        memory = PeakMemory(self.session.device.type)
        totals = self.take_up()
        chunks = self.chunks(totals.n_shards)
        # The row count comes first: drawing a chunk runs the model.
        while totals.n_rows < self.n_tokens and (chunk := next(chunks, None)) is not None:
            totals.add(self.write(totals.n_shards, chunk, self.n_tokens - totals.n_rows))
            self.session.progress("tokens captured", totals.n_rows, self.n_tokens)
        if totals.n_rows == 0:
            raise ConfigError(
                f"the corpus gave no rows for the {self.work['split']} split. Add documents or check its text."
            )
        if totals.n_rows < self.n_tokens:
            label = self.cells[0].label
            self.session.warn(f"{label}: the corpus ended after {totals.n_rows} of {self.n_tokens} tokens")
        self.check_draw(totals)
        self.write_means(totals)
        for cell in self.cells:
            self.commit(cell, totals, memory.read())

    def chunks(self, skip_chunks: int) -> Iterator[Capture]:
        work = self.work
        if isinstance(self.model, HasOwnRows):
            stored = self.model.stored_capture(list(self.folders))
            names = stored.rows["document"].astype(str)
            places = _stored_places(names, work)
            if work.get("draw") is not None:
                self.n_drawn_from = names.iloc[places].nunique
            yield from _stored_chunks(stored, places, skip_chunks)
            return
        if not isinstance(self.model, RunsTexts):
            raise PluginError(
                f"{type(self.model).__name__} has neither windows() and activations() nor stored_capture(); a model "
                "needs the first two to run texts (harness.RunsTexts), or the last (harness.HasOwnRows)."
            )
        texts = Texts(self.session.create, self.model, work)
        self.n_drawn_from = lambda: texts.n_drawn_from
        yield from (chunk for _, chunk in texts.chunks(list(self.folders), lambda number: number >= skip_chunks))

    def check_draw(self, totals: _Totals) -> None:
        """Warn if draws of two seeds have so much in common that they vary less than new texts would."""
        n_pool = self.n_drawn_from()
        n_drawn = n_documents(next(iter(self.folders.values())), totals.n_shards) if n_pool else 0
        if n_drawn > _MOST_IN_COMMON * n_pool:
            self.session.warn(
                f"{self.cells[0].label}: {n_drawn} of the {n_pool} documents there are were drawn. Other seeds have "
                "many of them too, so intervals over seeds are too short: use a larger corpus, or fewer tokens."
            )

    def take_up(self) -> _Totals:
        """Count the shards of an interrupted run that the work folders of all sites hold."""
        totals = _Totals()
        folder = next(iter(self.folders.values()))
        while all((folder / shard_name(totals.n_shards)).exists() for folder in self.folders.values()):
            with safe_open(folder / shard_name(totals.n_shards), framework="pt") as shard:
                if ("x" in shard.keys()) != self.store_rows:  # noqa: SIM118  # not a dict
                    break  # of a run that stored rows, or did not, unlike this one
                totals.add(_Shard(shard.get_slice("norm").get_shape()[0], float(shard.metadata()["seconds"])))
        return totals

    def write(self, number: int, chunk: Capture, n_wanted: int) -> _Shard:
        seconds, self.started = time.perf_counter() - self.started, time.perf_counter()
        rows = chunk.rows.iloc[:n_wanted].reset_index(drop=True)
        for site, folder in self.folders.items():
            write_shard(folder, number, chunk.x[site][:n_wanted], rows, seconds, self.store_rows)
        for site, mean in self.means.items():
            mean.add(chunk.x[site][:n_wanted])
        return _Shard(len(rows), seconds)

    def write_means(self, totals: _Totals) -> None:
        """Write the means of the rows that are not masked, of the sites whose rows are not stored."""
        norms = {site: _norms(self.folders[site], totals.n_shards) for site in self.unstored}
        found = {site: mean.value(norms[site]) for site, mean in self.means.items()}
        lacking = [site for site in found if found[site] is None]
        if lacking:  # resumed, or the first rows did not tell which are masked
            found |= self.read_means({site: norms[site] for site in lacking})
        for site, value in found.items():
            if value is not None:
                write_mean(self.folders[site], value)

    def read_means(self, norms: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Read all texts once more for the means of some sites, given the norms of their rows."""
        multiple, n_rows = float(self.work["max_norm_multiple"]), len(next(iter(norms.values())))
        means = {site: PassingMean(multiple, multiple * typical_norm(own)) for site, own in norms.items()}
        n_done = 0
        for chunk in self.chunks(0):
            for site, mean in means.items():
                mean.add(chunk.x[site][: n_rows - n_done])
            n_done += len(chunk.rows)
            self.session.progress("tokens read for their mean", min(n_done, n_rows), n_rows)
            if n_done >= n_rows:
                break
        return {site: mean.value(norms[site]) for site, mean in means.items()}

    def check_disk(self, max_disk_gb: float) -> None:
        """Refuse before any work what the budget or the disk does not hold."""
        row_bytes = self.model.width * 4 if self.store_rows else IDENTITY_BYTES
        n_bytes = self.n_tokens * row_bytes * len(self.cells)
        free = shutil.disk_usage(_existing(self.session.store.cache)).free
        if n_bytes > max_disk_gb * 1e9:
            raise ConfigError(
                f"this pass needs {n_bytes / 1e9:.3g} GB on disk, max_disk_gb is {max_disk_gb}. Raise it, or ask for "
                "fewer tokens or sites."
            )
        if n_bytes > free:
            raise StoreError(
                f"this pass needs {n_bytes / 1e9:.3g} GB, {self.session.store.cache} has {free / 1e9:.3g}."
            )

    def commit(self, cell: Cell, totals: _Totals, peak_bytes: int | None) -> None:
        folder = self.folders[cell.work["site"]]
        for stale in sorted(folder.glob("shard-*"))[totals.n_shards :]:  # of an interrupted run that got further here
            stale.unlink()
        n_bytes = sum(path.stat().st_size for path in folder.glob("shard-*"))
        of_rows: dict[str, Any] = {} if self.store_rows else {"rows_stored": False}
        self.session.commit(
            cell,
            _cost_rows(totals, n_bytes, peak_bytes),
            **of_rows,
            n_rows=totals.n_rows,
            width=self.model.width,
            n_layers=self.model.n_layers,
            tokenizer_hash=self.model.tokenizer_hash,
            sites_of_pass=sorted(self.folders),
        )


def _norms(folder: Path, n_shards: int) -> Tensor:
    norms = []
    for number in range(n_shards):
        with safe_open(folder / shard_name(number), framework="pt") as shard:
            norms.append(shard.get_tensor("norm"))
    return torch.cat(norms)


@dataclass(frozen=True)
class _Shard:
    n_rows: int
    seconds: float


@dataclass
class _Totals:
    n_shards: int = 0
    n_rows: int = 0
    seconds: float = 0.0

    def add(self, shard: _Shard) -> None:
        self.n_shards += 1
        self.n_rows += shard.n_rows
        self.seconds += shard.seconds


def _cost_rows(totals: _Totals, n_bytes: int, peak_bytes: int | None) -> list[dict[str, Any]]:
    # How many sites share a pass depends on which were there already: the manifest knows, a table must not differ.
    shared = "of the whole pass, shared by its sites"
    return [
        cost("capture_seconds", totals.seconds, totals.n_rows, shared),
        cost("capture_tokens", totals.n_rows, totals.n_rows),
        cost("capture_disk_bytes", n_bytes, totals.n_rows),
        cost("capture_peak_memory_bytes", peak_bytes, totals.n_rows, shared if peak_bytes else "not measurable here"),
    ]


def _stored_places(names: pd.Series[str], work: Any) -> Int[np.ndarray, " n"]:
    """The places of the user's own rows that a split has, split by document like any corpus, in the order of a draw.

    Args:
        names: the document of each row.
        work: what the capture is of.
    """
    places = np.flatnonzero([in_split(name, work["documents"]) for name in names])
    if work.get("draw") is None:
        return places
    order = np.array([drawn_place(name, work["draw"]) for name in names.iloc[places]], dtype=np.uint64)
    return places[np.argsort(order, kind="stable")]


def _stored_chunks(
    capture: Capture, places: Int[np.ndarray, " n"], skip_chunks: int, chunk_rows: int = 65536
) -> Iterator[Capture]:
    for start in range(skip_chunks * chunk_rows, len(places), chunk_rows):
        part = places[start : start + chunk_rows]
        x: dict[str, Tensor] = {site: rows[part] for site, rows in capture.x.items()}
        yield Capture(x, capture.rows.iloc[part].reset_index(drop=True))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
