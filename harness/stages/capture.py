"""Capture: one forward pass over a split of the corpus fills the store for every site asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.capturing.capture import Chunk, ChunkPlace
from harness.capturing.chunks import Range
from harness.capturing.kept_mean import PassingMean
from harness.capturing.masking import typical_norm
from harness.capturing.own_rows import OwnRows
from harness.capturing.pass_shards import PassShards, Shard
from harness.capturing.texts import Texts
from harness.contracts.model import HasOwnRows, Model, RunsTexts, site_width
from harness.contracts.sites import parse_site
from harness.errors import ConfigError, PluginError, StoreError
from harness.planning.cells import Cell
from harness.running.memory import PeakMemory
from harness.running.session import Session
from harness.storage.activation_store import MEAN, n_documents, write_mean
from harness.storage.records import cost
from harness.storage.unstored import IDENTITY_BYTES

_MOST_IN_COMMON = 0.25
"""The share of the documents, all in a draw, from which on draws of two seeds are too much alike."""


def run(cells: list[Cell], session: Session) -> None:
    """Capture the sites of one pass that are not in the store yet."""
    with session.missing(cells) as missing:
        if missing:
            _capture(missing, session)


def run_range(cells: list[Cell], session: Session, part: Range) -> None:
    """Capture one range of the rows of a pass, which `run` takes up."""
    left = session.not_made(cells)
    if left:
        _RangeOfPass(left, session, _loader(left, session), part).run()


def _loader(cells: list[Cell], session: Session) -> Callable[[], Model]:
    """A function that gives the model of a pass, which is loaded once, when it is first asked for."""

    @cache
    def load() -> Model:
        session.progress(f"loading {cells[0].columns['model']}", 0, 1)
        model: Model = session.create("model", cells[0].work["model"])
        return model

    return load


def _capture(cells: list[Cell], session: Session) -> None:
    load = _loader(cells, session)
    together = _Pass(cells, session, load)
    if not together.take_up():
        together.check_disk()
    try:
        together.run()
    except ConfigError:  # a site that this model has not got, found out by running it, costs no other site
        if len(cells) == 1:
            raise
        for cell in cells:
            with session.alone(cell):
                _Pass([cell], session, load).run()


class _Pass:
    """One forward pass over a split for several sites."""

    def __init__(self, cells: list[Cell], session: Session, load: Callable[[], Model]) -> None:
        self.cells, self.session, self.work, self.load = cells, session, cells[0].work, load
        self.n_tokens = int(self.work["tokens"])
        self.folders = {cell.work["site"]: session.store.work_folder("capture", cell.key) for cell in cells}
        self.store_rows = bool(self.work.get("store_rows", True))
        self.means = {site: PassingMean(self.work["max_norm_multiple"]) for site in self.unstored}
        self.shards = PassShards(self.folders, self.store_rows, session.warn)
        self.n_drawn_from: Callable[[], int] = lambda: 0

    @property
    def unstored(self) -> list[str]:
        """The sites whose rows are not stored: all or none."""
        return [] if self.store_rows else list(self.folders)

    def take_up(self) -> bool:
        """Take up the shards that others have left, from the first on; True if nothing is left to capture."""
        while self.shards.n_rows < self.n_tokens and self.shards.have(len(self.shards.known)):
            pass
        return self.shards.n_rows >= self.n_tokens

    def run(self) -> None:
        if not self.take_up():
            for place, chunk in self.chunks(lambda place: not self.shards.have(place.number), self.n_tokens):
                self.write(place, chunk)
                self.session.progress("tokens captured", self.shards.n_rows, self.n_tokens)
        n_rows = self.shards.n_rows
        if n_rows == 0:
            raise ConfigError(
                f"the corpus gave no rows for the {self.work['split']} split. Add documents or check its text."
            )
        if n_rows < self.n_tokens:
            label = self.cells[0].label
            self.session.warn(f"{label}: the corpus ended after {n_rows} of {self.n_tokens} tokens")
        self.check_draw()
        self.write_means()
        self.session.count(self.shards.seconds_of_others)
        for cell in self.cells:
            self.commit(cell)

    def chunks(self, is_wanted: Callable[[ChunkPlace], bool], n_rows: int) -> Iterator[tuple[ChunkPlace, Chunk]]:
        """The chunks that are wanted, of those that begin before a number of rows."""
        model, sites = self.load(), list(self.folders)
        # Loading the model, or converting it once, is no cost of its activations.
        self.started, self.memory = time.perf_counter(), PeakMemory(self.session.device.type)
        if isinstance(model, HasOwnRows):
            own = OwnRows(model, self.work)
            self.n_drawn_from = lambda: own.n_drawn_from
            return own.chunks(sites, is_wanted, n_rows)
        if not isinstance(model, RunsTexts):
            raise PluginError(
                f"{type(model).__name__} has neither windows() and activations() nor stored_capture(); a model "
                "needs the first two to run texts (harness.RunsTexts), or the last (harness.HasOwnRows)."
            )
        texts = Texts(self.session.create, model, self.work)
        self.n_drawn_from = lambda: texts.n_drawn_from
        return texts.chunks(sites, is_wanted, n_rows)

    def check_draw(self) -> None:
        """Warn if draws of two seeds have so much in common that they vary less than new texts would."""
        n_pool = max(shard.n_drawn_from for shard in self.shards.known.values())
        n_drawn = n_documents(next(iter(self.folders.values())), len(self.shards.known)) if n_pool else 0
        if n_drawn > _MOST_IN_COMMON * n_pool:
            self.session.warn(
                f"{self.cells[0].label}: {n_drawn} of the {n_pool} documents there are were drawn. Other seeds have "
                "many of them too, so intervals over seeds are too short: use a larger corpus, or fewer tokens."
            )

    def write(self, place: ChunkPlace, chunk: Chunk) -> None:
        """Write the shard of a chunk for all sites."""
        seconds, self.started = time.perf_counter() - self.started, time.perf_counter()
        n_wanted = self.n_tokens - place.first_row
        rows, model = chunk.rows.iloc[:n_wanted].reset_index(drop=True), self.load()
        of_model = {name: getattr(model, name) for name in ("width", "n_layers", "tokenizer_hash")}
        widths = {site: site_width(model, site) for site in self.folders if parse_site(site).is_inner}
        of_model |= {"widths": widths} if widths else {}
        shard = Shard(self.store_rows, len(rows), seconds, self.memory.read(), self.n_drawn_from(), of_model)
        x = {site: chunk.x[site][:n_wanted] for site in self.folders}
        self.shards.write(place.number, shard, x, rows)
        for site, mean in self.means.items():
            mean.add(x[site])

    def write_means(self) -> None:
        """Write the means of the rows that are not masked, of the sites whose rows are not stored."""
        norms = {site: self.shards.norms(site) for site in self.unstored}
        found = {site: mean.value(norms[site]) for site, mean in self.means.items()}
        lacking = [site for site in found if found[site] is None]
        if lacking:  # resumed, or the first rows did not tell which are masked
            found |= self.read_means({site: norms[site] for site in lacking})
        for site, value in found.items():
            if value is not None:
                write_mean(self.folders[site], value)

    def read_means(self, norms: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Read all texts once more for the means of some sites, given the norms of their rows."""
        multiple, n_rows = float(self.work["max_norm_multiple"]), self.shards.n_rows
        means = {site: PassingMean(multiple, multiple * typical_norm(own)) for site, own in norms.items()}
        for place, chunk in self.chunks(lambda place: True, n_rows):
            n_left = n_rows - place.first_row
            for site, mean in means.items():
                mean.add(chunk.x[site][:n_left])
            self.session.progress("tokens read for their mean", n_rows - n_left, n_rows)
        return {site: mean.value(norms[site]) for site, mean in means.items()}

    def check_disk(self) -> None:
        """Refuse before any work what the budget or the disk does not hold."""
        max_disk_gb = float(self.work["max_disk_gb"])
        width = sum(site_width(self.load(), str(cell.work["site"])) for cell in self.cells)
        n_bytes = self.n_tokens * (4 * width if self.store_rows else IDENTITY_BYTES * len(self.cells))
        free = shutil.disk_usage(_existing(self.session.store.cache)).free
        if n_bytes > max_disk_gb * 1e9:
            raise ConfigError(
                f"this pass needs {n_bytes / 1e9:.3g} GB on disk, max_disk_gb is {max_disk_gb}. Raise it, or ask for "
                "fewer tokens or sites."
            )
        if n_bytes > free + self.shards.n_bytes:
            raise StoreError(
                f"this pass needs {n_bytes / 1e9:.3g} GB, {self.session.store.cache} has {free / 1e9:.3g}."
            )

    def commit(self, cell: Cell) -> None:
        folder = self.folders[cell.work["site"]]
        digests = self.shards.digests(cell.work["site"])
        wanted = digests.keys() | (set() if self.store_rows else {MEAN})
        for path in folder.glob("[!.]*"):  # of a run that got further, or that somebody has put there
            if path.name not in wanted:
                path.unlink()
        n_bytes = sum((folder / name).stat().st_size for name in digests)
        of_rows: dict[str, Any] = {} if self.store_rows else {"rows_stored": False}
        of_model = dict(self.shards.known[0].model)
        of_model["width"] = of_model.pop("widths", {}).get(cell.work["site"], of_model["width"])
        self.session.commit(
            cell,
            _cost_rows(list(self.shards.known.values()), n_bytes),
            digests=digests,
            **of_rows,
            n_rows=self.shards.n_rows,
            **of_model,
            sites_of_pass=sorted(self.folders),
        )


class _RangeOfPass(_Pass):
    """A range of the rows of a pass, of which others may do other ranges at the same time.

    Invariant: nobody changes a work folder without the lock of its artefact, which is held here only for a moment.
    """

    def __init__(self, cells: list[Cell], session: Session, load: Callable[[], Model], part: Range) -> None:
        super().__init__(cells, session, load)
        self.first, self.end = part.rows(self.n_tokens)

    def run(self) -> None:
        self.check_disk()
        for place, chunk in self.chunks(self.is_wanted, self.end):
            with self.lacking(place) as is_lacking:  # nobody has made it meanwhile
                if is_lacking:
                    self.write(place, chunk)
            self.session.progress("tokens captured", min(place.first_row + len(chunk.rows), self.end), self.end)

    def is_wanted(self, place: ChunkPlace) -> bool:
        """True for a chunk of this range that is still to be captured."""
        if place.first_row < self.first:
            return False
        with self.lacking(place) as is_lacking:
            return is_lacking

    @contextmanager
    def lacking(self, place: ChunkPlace) -> Iterator[bool]:
        """Hold the locks of all sites; gives True if a chunk is still to be captured."""
        if self.session.ended:  # another run has made what is captured here
            yield False
            return
        with self.session.missing(self.cells) as missing:
            yield len(missing) == len(self.cells) and not self.shards.have(place.number)


def _cost_rows(shards: Sequence[Shard], n_bytes: int) -> list[dict[str, Any]]:
    n_rows, peaks = sum(shard.n_rows for shard in shards), [shard.peak_bytes for shard in shards]
    peak_bytes = None if None in peaks else max(peak or 0 for peak in peaks)
    # How many sites share a pass depends on which were there already: the manifest knows, a table must not differ.
    shared = "of the whole pass, shared by its sites"
    return [
        cost("capture_seconds", sum(shard.seconds for shard in shards), n_rows, shared),
        cost("capture_tokens", n_rows, n_rows),
        cost("capture_disk_bytes", n_bytes, n_rows),
        cost("capture_peak_memory_bytes", peak_bytes, n_rows, shared if peak_bytes else "not measurable here"),
    ]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
