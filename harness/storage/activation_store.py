"""Activations on disk: safetensors shards of rows and their identities, written in order, read at random.

Rows are read from their place in the file, and nothing of it stays in memory. The pages of a memory map would stay as
long as the store is open, and hold far more around each row than was asked for.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.contracts.rows import rows_from_tensors, rows_to_tensors
from harness.errors import StoreError
from harness.files import follow_umask, writing
from harness.storage.unstored import has_rows

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


MEAN = "mean.safetensors"
"""The file of `write_mean`."""


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def write_shard(
    folder: Path,
    number: int,
    x: Float[Tensor, "n d"],
    rows: pd.DataFrame,
    store_rows: bool = True,
) -> None:
    """Write one shard, which appears whole or not at all. The same rows give the same bytes.

    Args:
        folder: the work folder of a capture.
        number: of the shard, from 0 on.
        x: the rows.
        rows: their identities.
        store_rows: False to keep their identities and norms alone.
    """
    tensors, documents = rows_to_tensors(rows)
    tensors["norm"] = row_norms(x).cpu()
    if store_rows:
        tensors["x"] = x.contiguous().cpu()
    temporary = folder / f".{shard_name(number)}"
    with writing(temporary):
        save_file(tensors, temporary, {"documents": json.dumps(documents)})  # of two entries chance would be the first
        follow_umask(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / shard_name(number))


def write_mean(folder: Path, mean: Float[Tensor, " d"]) -> None:
    """Write the mean of the rows that are not masked, which can't be taken later where rows are not stored."""
    save_file({"mean": mean.cpu().contiguous()}, folder / MEAN)


def row_norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """The Euclidean norm of every row, in float64."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    return norms


def n_documents(folder: Path, n_shards: int) -> int:
    """The number of documents that the rows of the first shards in a folder are of."""
    found: set[str] = set()
    for number in range(n_shards):
        with safe_open(folder / shard_name(number), framework="pt") as shard:
            found.update(json.loads(shard.metadata()["documents"]))
    return len(found)


class StoredActivations:
    """The rows of one site and split, in the order of their documents."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.n_rows: int = manifest["n_rows"]
        self.width: int = manifest["width"]
        paths = [folder / name for name in sorted(manifest["files"]) if name.startswith("shard-")]
        self._paths = paths
        self._shards = [safe_open(path, framework="pt") for path in paths]
        self.starts = np.cumsum([0, *(shard.get_slice("norm").get_shape()[0] for shard in self._shards)])
        """The place of the first row of every shard, and the number of rows."""

    @property
    def has_rows(self) -> bool:
        """False where only identities and norms are stored, and the mean of the rows that are not masked."""
        return has_rows(self.manifest)

    @cached_property
    def _x(self) -> list[_RowsOnDisk]:
        if not self.has_rows:
            raise StoreError(f"{self.folder} holds no rows: they were captured with store_rows=false.")
        return [_RowsOnDisk(path) for path in self._paths]

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

    def kept_mean(self) -> Float[Tensor, " d"]:
        """The mean of the rows that are not masked, in float64, where it is stored and they are not."""
        with safe_open(self.folder / MEAN, framework="pt") as file:
            mean: Tensor = file.get_tensor("mean")
        return mean

    def take(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The rows with these numbers, in float32."""
        return self._take(index, _RowsOnDisk.take)

    def take_many(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Rows as `take` gives them, in one step a shard, not one a row; several threads may take some at once.

        While it runs the pages around the rows are in memory.
        """
        return self._take(index, _RowsOnDisk.gather)

    def _take(
        self, index: Int[Tensor, " b"], of_shard: Callable[[_RowsOnDisk, npt.NDArray[np.int64]], Tensor]
    ) -> Float[Tensor, "b d"]:
        places = index.cpu().numpy().astype(np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < self.n_rows:
            raise IndexError(f"rows {places.min()} to {places.max()} of {self.n_rows}")
        shard_of = np.searchsorted(self.starts, places, side="right") - 1
        taken = torch.empty(len(places), self.width, dtype=torch.float32)
        for shard in np.unique(shard_of):
            chosen = np.flatnonzero(shard_of == shard)
            found = of_shard(self._x[shard], places[chosen] - self.starts[shard])
            taken[torch.from_numpy(chosen)] = found.float()
        return taken


class _RowsOnDisk:
    """The tensor `x` of a safetensors file (https://github.com/huggingface/safetensors#format), row by row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(n_header))["x"]
        self.n_rows, width = header["shape"]
        self._dtype = _DTYPES[header["dtype"]]
        self._row_bytes = width * self._dtype.itemsize
        self._offset = 8 + n_header + header["data_offsets"][0]

    def take(self, places: npt.NDArray[np.int64]) -> Shaped[Tensor, "b d"]:
        raw = np.empty((len(places), self._row_bytes), np.uint8)
        ends = np.append(np.flatnonzero(np.diff(places) != 1) + 1, len(places))
        offsets = self._offset + self._row_bytes * places
        start = 0
        # Opened each time: a large store has more shards than a process may have open files.
        with self._path.open("rb", buffering=0) as file:
            for end in ends.tolist():  # consecutive rows in one read
                file.seek(offsets[start])
                missing = raw[start:end].data.cast("B")
                while len(missing):  # one read has at most 2 GB
                    n_read = file.readinto(missing)
                    if not n_read:
                        raise StoreError(f"{self._path} ends too early. Delete its folder and run again.")
                    missing = missing[n_read:]
                start = end
        return torch.from_numpy(raw).view(self._dtype)

    def gather(self, places: npt.NDArray[np.int64]) -> Shaped[Tensor, "b d"]:
        """The rows through a map that lasts as long as this; of a file that ends too early none could be had."""
        if self._path.stat().st_size < self._offset + self.n_rows * self._row_bytes:
            raise StoreError(f"{self._path} ends too early. Delete its folder and run again.")
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if hasattr(mmap, "MADV_RANDOM"):
                mapped.madvise(mmap.MADV_RANDOM)  # read no more around a row than its pages
            shape = self.n_rows, self._row_bytes
            rows = np.ndarray(shape, np.uint8, mapped, self._offset).take(places, axis=0)
        return torch.from_numpy(rows).view(self._dtype)
