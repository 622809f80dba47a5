"""Activations on disk: safetensors shards of rows and their identities, written in order, read at random.

A shard is memory-mapped: taking rows touches the pages that hold them and no others.
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.disk import writing
from harness.errors import StoreError
from harness.rows import rows_from_tensors, rows_to_tensors


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def write_shard(folder: Path, number: int, x: Float[Tensor, "n d"], rows: pd.DataFrame, seconds: float = 0.0) -> None:
    """One shard, which appears whole or not at all; `seconds` is what it took to make its rows."""
    tensors, documents = rows_to_tensors(rows)
    norm = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    tensors |= {"x": x.contiguous().cpu(), "norm": norm.cpu()}
    temporary = folder / f".{shard_name(number)}"
    with writing(temporary):
        # exact and always of one length, or the size of the file, which a table shows, would be a matter of luck
        save_file(tensors, temporary, {"documents": json.dumps(documents), "seconds": f"{seconds:.17e}"})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / shard_name(number))


class StoredActivations:
    """The rows of one site and split, in the order of their documents."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.n_rows: int = manifest["n_rows"]
        self.width: int = manifest["width"]
        names = [name for name in sorted(manifest["files"]) if name.startswith("shard-")]
        self._shards = [safe_open(folder / name, framework="pt") for name in names]
        self._x = [shard.get_tensor("x") for shard in self._shards]
        self._starts = np.cumsum([0, *(len(x) for x in self._x)])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The identity of every row."""
        tables = []
        for shard in self._shards:
            names = [name for name in shard.keys() if name.startswith("rows.")]  # noqa: SIM118  # not a dict
            documents = json.loads(shard.metadata()["documents"])
            tables.append(rows_from_tensors({name: shard.get_tensor(name) for name in names}, documents))
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def norms(self) -> Float[Tensor, " n"]:
        """The Euclidean norm of every row, in float64."""
        return torch.cat([shard.get_tensor("norm") for shard in self._shards])

    def take(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The rows at these places, in float32."""
        places = index.cpu().numpy()
        shard_of = np.searchsorted(self._starts, places, side="right") - 1
        taken = torch.empty(len(places), self.width, dtype=torch.float32)
        for shard in np.unique(shard_of):
            chosen = np.flatnonzero(shard_of == shard)
            local = torch.from_numpy(places[chosen] - self._starts[shard])
            taken[torch.from_numpy(chosen)] = self._x[shard][local].float()
        return taken


def masked_rows(activations: StoredActivations, fit: StoredActivations, max_norm_multiple: float) -> Bool[Tensor, " n"]:
    """True for rows that are left out: norm above a multiple of the median of the fit rows, or not finite.

    A few such rows (attention sinks) hold much of all squared error, and where they fall is chance.
    """
    finite = fit.norms[torch.isfinite(fit.norms)].numpy()
    if not len(finite):
        raise StoreError(f"{fit.folder}: no row is finite; in float16 large activations overflow, use bfloat16.")
    return ~(activations.norms <= max_norm_multiple * float(np.median(finite)))
