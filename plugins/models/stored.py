"""The user's own activations, from files in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness import SITE_KINDS, Capture, ConfigError, file_digest, parse_site
from harness.plugins.models import StoredConfig
from harness.plugins.models.planning import visible_files
from harness.plugins.models.rows_table import read_rows

_ROWS = ("rows.parquet", "rows.csv")
_SUFFIXES = (".safetensors", ".npy")


class Stored:
    """Rows that were captured elsewhere. `StoredConfig` says what the folder holds."""

    def __init__(self, config: StoredConfig) -> None:
        self._folder = Path(config.path).expanduser()
        if not self._folder.is_dir():
            raise ConfigError(f"model stored: no folder {config.path!r} (working folder: {Path.cwd()}).")
        files = [path for path in visible_files(self._folder) if _is_site(path)]
        self._files = {path.stem: path for path in files}
        if len(self._files) < len(files):
            stems = [path.stem for path in files]
            twice = ", ".join(path.name for path in files if stems.count(path.stem) > 1)
            raise ConfigError(f"model stored: {self._folder} has {twice}. Keep one file for each site.")
        if not self._files:
            raise ConfigError(
                f"model stored: {self._folder} has no activations. Name them by site, such as resid_post.6.safetensors "
                f"(tensor x) or resid_post.6.npy, [n, d].{_unread(self._folder, *SITE_KINDS)}"
            )
        described = self._read_description()
        n_least = 1 + max(parse_site(site).layer for site in self._files)
        self.n_layers: int = described.get("n_layers", n_least)
        if self.n_layers < n_least:
            raise ConfigError(
                f"model stored: {self._folder / 'stored.json'}: n_layers is {self.n_layers}, and there are rows of "
                f"layer {n_least - 1}. Layers are counted from 0 on."
            )
        of_stream = [site for site in self._files if not parse_site(site).is_inner]
        self.width = self.site_width(next(iter(of_stream or self._files)))
        self.tokenizer_hash: str = described.get("tokenizer_hash") or self._unknown_tokenizer()

    def site_width(self, site: str) -> int:
        """Dimensions of the rows at a site."""
        return self._read(site).shape[1]

    def site_groups(self, site: str) -> int:
        """The number of groups of columns: 1, as the files name no heads."""
        return 1

    def stored_capture(self, sites: Sequence[str]) -> Capture:
        """The rows at these sites, aligned with the rows table; those it flags as special are left out."""
        if isinstance(sites, str):
            raise ConfigError(f"model stored: sites is {sites!r}; give a list.")
        missing = [site for site in sites if site not in self._files]
        if missing:
            raise ConfigError(
                f"model stored: no activations at {', '.join(missing)} in {self._folder}. "
                f"It has: {', '.join(self._files)}.{_unread(self._folder, *missing)}"
            )
        keep = ~self._rows["special"].to_numpy()
        x = {}
        for site in sites:
            stored = self._read(site)
            width = stored.shape[1] if parse_site(site).is_inner else self.width
            if stored.shape != (len(keep), width):
                raise ConfigError(
                    f"model stored: {self._files[site].name} is {list(stored.shape)}, but the rows table and the other "
                    f"sites ask for {[len(keep), width]}. Each row of the table is one row at every site."
                )
            x[site] = stored[torch.from_numpy(keep)]
        return Capture(x, self._rows[keep].reset_index(drop=True))

    @cached_property
    def _rows(self) -> pd.DataFrame:
        tables = find_tables(self._folder)
        if len(tables) != 1:
            wrong = f"has {' and '.join(path.name for path in tables)}; keep one" if tables else "has no rows table"
            raise ConfigError(
                f"model stored: {self._folder} {wrong}. It is read from {' or '.join(_ROWS)}."
                f"{_unread(self._folder, 'rows')}"
            )
        return read_rows(tables[0])

    def _read(self, site: str) -> Float[Tensor, "n d"]:
        path = self._files[site]
        try:
            if path.suffix.lower() == ".npy":
                # Copy-on-write: torch asks for writable memory, and nothing reaches the file.
                x = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
            else:
                with safe_open(path, framework="pt") as file:
                    x = file.get_tensor("x")
        except (SafetensorError, ValueError, TypeError) as error:
            raise ConfigError(
                f"model stored: can't read {path}: {error}. It must hold one tensor (x), [n, d]."
            ) from error
        if x.ndim != 2 or not x.is_floating_point():
            raise ConfigError(
                f"model stored: {path} holds {x.dtype} {list(x.shape)}; it must be floating point, [n, d]."
            )
        return x

    def _read_description(self) -> dict[str, Any]:
        path = self._folder / "stored.json"
        if not path.is_file():
            return {}
        try:
            described = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ConfigError(f"model stored: {path} is not JSON: {error}.") from error
        known = {"n_layers": int, "tokenizer_hash": str}
        if not isinstance(described, dict):
            raise ConfigError(f"model stored: {path} holds no object with {' and '.join(known)}.")
        for name in known.keys() & described.keys():
            if type(described[name]) is not known[name]:  # True is an int to isinstance
                wanted = "a whole number" if known[name] is int else "a text"
                raise ConfigError(f"model stored: {path}: {name} is {described[name]!r}; it must be {wanted}.")
        return described

    def _unknown_tokenizer(self) -> str:
        """A hash that no other rows share: positions can't be compared without knowing the tokenizer."""
        return "unknown-" + "-".join(file_digest(path)[:16] for path in find_tables(self._folder))


def find_tables(folder: Path) -> list[Path]:
    """The tables of rows in a folder, of which there should be one."""
    return [path for path in visible_files(folder) if path.name.lower() in _ROWS]


def _is_site(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.stem.split(".")[0] in SITE_KINDS


def _unread(folder: Path, *stems: str) -> str:
    """A sentence about files with these beginnings of names that are packed or of another format."""
    read = {path for path in visible_files(folder) if _is_site(path)} | set(find_tables(folder))
    found = [path.name for path in visible_files(folder) if path not in read and path.name.lower().startswith(stems)]
    return f" Not read: {', '.join(found)}; unpack or convert what should be." if found else ""
