"""Loaders of what runs load of a finished suite, and take up of a broken-off one: the functions that stages use.

Each loader gives a digest of all that it has read, or raises what a cell would fail with.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

import harness
from harness.asking.response_cache import FILE, ResponseCache
from harness.capturing.pass_shards import PassShards, Shard
from harness.contracts.decomposition import load
from harness.contracts.requests import Choose, Generate
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.snapshots import Snapshot
from harness.latents.activations import LatentActivations
from harness.latents.explanations import read_explanations
from harness.latents.reading import ACTIVATIONS
from harness.latents.sampled_latents import SampledLatents
from harness.planning.cells import Cell
from harness.planning.config import load_resolved
from harness.planning.plan import Plan, build_plan
from harness.registry.plugin_manager import Catalog
from harness.storage.activation_store import StoredActivations
from harness.storage.store import RESOLVED, Store, require
from harness.tables.verdicts import read_cell

Say = Callable[[str], None]
_BROKEN_OFF = "0123456789abcdef" * 2
"""The key of a capture and of a fit that were broken off; no plan has it."""


@dataclass(frozen=True)
class Loading:
    """A suite, and all that there is to load of it."""

    plan: Plan
    catalog: Catalog
    requests: tuple[Choose | Generate, ...]
    """All that the judge has answered."""
    explanations: tuple[Cell, ...]
    """Those that are there: of some methods there is nothing to explain."""

    @classmethod
    def of(cls, store: Store) -> Loading:
        suite, catalog = load_resolved(store.results / RESOLVED, [])
        with closing(sqlite3.connect(store.cache / "judges" / FILE)) as file:
            stored = [json.loads(text) for (text,) in file.execute("select request from responses order by key")]
        kinds = {"Choose": Choose, "Generate": Generate}
        requests = [kinds[words.pop("kind")](**words) for words in stored]
        requests = [Choose(r.system, r.user, tuple(r.choices)) if isinstance(r, Choose) else r for r in requests]
        plan = build_plan(suite)
        made = [cell for cell in plan.of_kind("explanation") if store.made(cell)]
        return cls(plan, catalog, tuple(requests), tuple(made))

    @property
    def loaders(self) -> Mapping[str, Callable[[Store, Say], str | None]]:
        """By the name of what they load; what is there no more, and will be made again, is None."""
        return {
            **{"rows": self._rows, "fits": self._fits, "cards": self._cards, "explanations": self._explanations},
            **{"answers": self._answers, "model": self._model, "verdicts": self._verdicts},
            **{"checkpoint": _checkpoint, "broken-off capture": _shard},
        }

    def _rows(self, store: Store, say: Say) -> str:
        found: list[object] = []
        for cell in self.plan.of_kind("capture"):
            stored = StoredActivations(*require(store, "capture", cell.key))
            found += [stored.take(torch.arange(stored.n_rows)), stored.rows.to_csv(), stored.norms]
        return _digest(*found)

    def _fits(self, store: Store, say: Say) -> str:
        x = torch.linspace(-1, 1, 80).reshape(5, 16)
        fits = [load(require(store, "fit", cell.key)[0]) for cell in self.plan.of_kind("fit")]
        return _digest(*(fit.decode(fit.encode(x)) for fit in fits))

    def _cards(self, store: Store, say: Say) -> str:
        """The sampled latents as scorers see them, and all activations."""
        found: list[object] = []
        for cell in self.plan.of_kind("latents"):
            activations = LatentActivations.load(require(store, "latents", cell.key)[0] / ACTIVATIONS)
            found += [activations.values, activations.rows, activations.offsets, activations.thresholds]
        for cell in self.explanations:
            found += [vars(sampled.latent) for sampled in SampledLatents(store).of(cell.work)]
        return _digest(*found)

    def _explanations(self, store: Store, say: Say) -> str:
        return _digest(*(read_explanations(store, cell.key) for cell in self.explanations))

    def _answers(self, store: Store, say: Say) -> str:
        """All answers; what is not there is asked again."""
        judge = next(cell.work["judge"] for cell in self.plan.of_kind("scoring") if "judge" in cell.work)
        cache = ResponseCache(store.cache / "judges", judge["inputs"], "suite", say)
        found: dict[object, object] = {request: cache.find(request) for request in self.requests}
        cache.close()
        gone = [request for request in self.requests if found[request] is None]
        if gone:
            say(f"{len(gone)} answers are asked for again")
            asked = self.catalog.create("judge", judge["name"], dict(judge["params"]))
            for request in gone:
                answers = asked.choose([request]) if isinstance(request, Choose) else asked.generate([request])
                found[request] = next(iter(answers))
        return _digest(*(tuple(answer) if isinstance(answer, list) else answer for answer in found.values()))

    def _model(self, store: Store, say: Say) -> str:
        call = self.plan.of_kind("capture")[0].work["model"]
        model = self.catalog.create("model", call["name"], dict(call["params"]))
        captured = harness.capture(model, ["word1 word2 word3 word4"], ["resid_post.1"])
        return _digest(captured.x["resid_post.1"], captured.rows.to_csv())

    def _verdicts(self, store: Store, say: Say) -> str:
        return _digest(*(read_cell(store, cell.key) for cell in self.plan.of_kind("scoring")))


def break_off(store: Store) -> None:
    """Leave what a run does that is killed in a capture and in a fit."""
    x = torch.linspace(-1, 1, 112).reshape(7, 16)
    _checkpoints(store, print).save_all({_BROKEN_OFF: lambda: (Snapshot({"weights": x}, {"rows_seen": 7}), [1, 7])})
    rows = pd.DataFrame({name: range(7) for name in ("document", "window", "position", "start", "end")})
    rows["special"] = False
    _shards(store, print).write(0, Shard(True, 7, 0.5, None, 0, {"width": 16}), {"site": x}, rows)


def _checkpoint(store: Store, say: Say) -> str | None:
    found = _checkpoints(store, say).load(_BROKEN_OFF)
    return found and _digest(found[0].tensors, found[0].skeleton, found[1])


def _shard(store: Store, say: Say) -> str | None:
    """A shard as a capture that goes on seals it as a part of its artefact."""
    shards = _shards(store, say)
    return _digest(shards.known[0], shards.norms("site"), shards.digests("site")) if shards.have(0) else None


def _checkpoints(store: Store, say: Say) -> Checkpoints:
    return Checkpoints(lambda name: store.checkpoint("fit", name), say, every_seconds=0)


def _shards(store: Store, say: Say) -> PassShards:
    return PassShards({"site": store.work_folder("capture", _BROKEN_OFF)}, True, say)


def _digest(*parts: object) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(_bytes(part) + b"\n")
    return found.hexdigest()


def _bytes(part: object) -> bytes:
    if isinstance(part, Tensor):
        return part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(part, Mapping):
        return b",".join(_bytes(inner) for item in part.items() for inner in item)
    return repr(part).encode()
