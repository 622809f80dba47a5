"""The shards of a pass in the work folders of its sites: those that others have left there, and those written here.

Invariant: a shard counts if all sites have it, each as it was sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from harness.storage.activation_store import shard_name, write_shard
from harness.storage.manifests import size_of_file
from harness.storage.sealed_files import seal, sealed_digest, take_up


@dataclass(frozen=True)
class Shard:
    """One shard, by what is the same at all sites."""

    has_rows: bool
    n_rows: int
    seconds: float
    peak_bytes: int | None
    n_drawn_from: int
    """The number of documents that a seed drew from; 0 if none did."""
    model: Mapping[str, Any]
    """Entries of manifests about the model."""

    @classmethod
    def of_seal(cls, about: Mapping[str, Any] | None) -> Shard | None:
        """The shard that was sealed with this; None if it is of a version that knew other things."""
        is_known = about is not None and about.keys() == {field.name for field in fields(cls)}
        return cls(**about) if about is not None and is_known else None


class PassShards:
    """The shards of a pass, as far as they have been asked for.

    Args:
        folders: the work folder of each site.
        has_rows: False if shards keep identities and norms alone.
        say: told of what is damaged.
    """

    def __init__(self, folders: Mapping[str, Path], has_rows: bool, say: Callable[[str], None]) -> None:
        self._folders, self._has_rows, self._say = folders, has_rows, say
        self.known: dict[int, Shard] = {}
        self.seconds_of_others = 0.0
        """Seconds that shards took which were found, not written here."""

    @property
    def n_rows(self) -> int:
        """The number of their rows."""
        return sum(shard.n_rows for shard in self.known.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of all shards on disk, at all sites, looked at or not."""
        paths = [path for folder in self._folders.values() for path in folder.glob("shard-*")]
        return sum(size_of_file(path) or 0 for path in paths)  # a link that leads nowhere is written anew

    def have(self, number: int) -> bool:
        """True if a shard is there; a file of it that is not as it was made is set aside."""
        if number not in self.known:
            paths = [folder / shard_name(number) for folder in self._folders.values()]
            found = [Shard.of_seal(take_up(path, self._say)) for path in paths]
            # Of a run that stored rows, or did not, unlike this one, it is of no use.
            if found[0] and all(shard and shard.has_rows == self._has_rows for shard in found):
                self.known[number] = found[0]
                self.seconds_of_others += found[0].seconds
        return number in self.known

    def write(self, number: int, shard: Shard, x: Mapping[str, Float[Tensor, "n d"]], rows: pd.DataFrame) -> None:
        """Write a shard for all sites."""
        for site, folder in self._folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            write_shard(folder, number, x[site], rows, self._has_rows)
            seal(folder / shard_name(number), vars(shard))
        self.known[number] = shard

    def norms(self, site: str) -> Float[Tensor, " n"]:
        """The norms of all rows at a site."""
        norms = []
        for number in range(len(self.known)):
            with safe_open(self._folders[site] / shard_name(number), framework="pt") as shard:
                norms.append(shard.get_tensor("norm"))
        return torch.cat(norms)

    def digests(self, site: str) -> dict[str, str]:
        """The checksum of each shard at a site, by the name of its file."""
        names = [shard_name(number) for number in self.known]
        return {name: sealed_digest(self._folders[site] / name) for name in names}
