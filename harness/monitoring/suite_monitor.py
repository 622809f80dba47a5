"""A monitor for a fit of a suite, calibrated on the rows that the suite has captured and fits have not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.capturing.activations import BLOCK_ROWS
from harness.capturing.masking import max_norm
from harness.contracts.decomposition import load
from harness.errors import ConfigError
from harness.latents.explanations import of_latents
from harness.latents.reading import find_texts
from harness.monitoring.drift_watch import DriftWatch
from harness.monitoring.monitor import refuse_fitted
from harness.monitoring.monitor_folder import MonitorFolder
from harness.monitoring.reading import ReadDocuments, read_rows
from harness.monitoring.settings import MonitorSettings
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.activation_store import StoredActivations
from harness.storage.store import Store, require

Create = Callable[[str, Mapping[str, Any]], Any]
"""Makes the plugin that a cell names, from (kind, call)."""
_UNSEEN = ("evaluation", "interp")
"""The splits whose documents calibrate: no fit has learnt from them."""


@dataclass(frozen=True)
class SuiteMonitor:
    """A fit of a plan that is to be watched."""

    plan: Plan
    store: Store
    fit: Cell
    create: Create

    def model_call(self) -> Mapping[str, Any]:
        """The name and parameters of the model that the fit's rows come from."""
        call: Mapping[str, Any] = self._captures()[0].work["model"]
        return call

    def calibrate(self, folder: Path, settings: MonitorSettings) -> None:
        """Write a monitor to a folder."""
        fitted = StoredActivations(*require(self.store, "capture", self.fit.work["capture"]))
        decomposition = load(require(self.store, "fit", self.fit.key)[0])
        captures = self._captures()
        settings = replace(
            settings,
            context=captures[0].work["context"],
            max_norm=max_norm(fitted, self.fit.work["max_norm_multiple"]),
        )
        unseen = [StoredActivations(*require(self.store, "capture", cell.key)) for cell in captures]
        texts: dict[str, str] = {}
        for cell, activations in zip(captures, unseen, strict=True):
            texts |= find_texts(self.create, cell.work, set(activations.rows["document"].astype(str)))
        refuse_fitted(list(texts), fitted.rows["document"].astype(str).unique().tolist())
        read = _read(decomposition, unseen, texts, settings)
        watch, site = DriftWatch(read.documents, settings), str(self.fit.columns["site"])
        call = {"model": self.model_call()["name"], **self.model_call()["params"]}
        explanations, tokens = self._explanations(), read.tokens()
        MonitorFolder(folder, decomposition, watch, site, call, settings, explanations, tokens).write()

    def _captures(self) -> list[Cell]:
        """The captures of documents that fits at the site have not learnt from."""
        own = {name: self.fit.columns[name] for name in ("model", "site")}
        found = [
            cell
            for cell in self.plan.of_kind("capture")
            if cell.columns["split"] in _UNSEEN and all(cell.columns[name] == value for name, value in own.items())
        ]
        if found[0].work["corpus"] is None:
            raise ConfigError(f"watch: {own['model']} has rows of its own and reads no texts, so there is no stream.")
        return found

    def _explanations(self) -> dict[tuple[int, int], str]:
        """The first explanation of each latent that the suite has explained."""
        found: dict[tuple[int, int], str] = {}
        for cell in self.plan.of_kind("latents"):
            if cell.work["fit"] == self.fit.key:
                for pole, own in of_latents(self.plan, self.store, cell.key).items():
                    if texts := [one["text"] for one in own if one["text"]]:
                        found[pole] = texts[0]
        return found


def _read(
    decomposition: Any, captures: list[StoredActivations], texts: Mapping[str, str], settings: MonitorSettings
) -> ReadDocuments:
    place = {document: number for number, document in enumerate(texts)}

    def pieces() -> Iterator[tuple[Tensor, pd.DataFrame]]:
        for activations in captures:
            rows = activations.rows.assign(document=activations.rows["document"].astype(str).map(place))
            for first in range(0, activations.n_rows, BLOCK_ROWS):
                end = min(first + BLOCK_ROWS, activations.n_rows)
                yield activations.take(torch.arange(first, end)), rows.iloc[first:end]

    return read_rows(decomposition, pieces(), list(texts.values()), list(texts), settings.max_norm)
