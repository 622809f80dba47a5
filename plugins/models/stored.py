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

from harness import SITE_KINDS, Capture, ConfigError, file_digest, make_rows, parse_site
from harness.plugins.models import StoredConfig

_ROWS = ("rows.parquet", "rows.csv")
_SUFFIXES = (".safetensors", ".npy")


class Stored:
    """Rows that were captured elsewhere. `StoredConfig` says what the folder holds."""

    def __init__(self, config: StoredConfig) -> None:
        self._folder = Path(config.path).expanduser()
        if not self._folder.is_dir():
            raise ConfigError(f"model stored: no folder {config.path!r} (working folder: {Path.cwd()}).")
        self._files = {
            path.stem: path
            for path in sorted(self._folder.iterdir())
            if path.suffix in _SUFFIXES and path.stem.split(".")[0] in SITE_KINDS
        }
        if not self._files:
            raise ConfigError(
                f"model stored: {self._folder} has no activations. Name them by site, such as resid_post.6.safetensors "
                "(tensor x) or resid_post.6.npy, [n, d]."
            )
        described = self._read_description()
        layers = [parse_site(site).layer for site in self._files]
        self.n_layers: int = described.get("n_layers", max(layers) + 1)
        self.width = self._read(next(iter(self._files))).shape[1]
        self.tokenizer_hash: str = described.get("tokenizer_hash") or self._unknown_tokenizer()

    def stored_capture(self, sites: Sequence[str]) -> Capture:
        """The rows at these sites, aligned with the rows table; those it flags as special are left out."""
        if isinstance(sites, str):
            raise ConfigError(f"model stored: sites is {sites!r}; give a list.")
        missing = [site for site in sites if site not in self._files]
        if missing:
            raise ConfigError(
                f"model stored: no activations at {', '.join(missing)} in {self._folder}. "
                f"It has: {', '.join(self._files)}."
            )
        keep = ~self._rows["special"].to_numpy()
        x = {}
        for site in sites:
            stored = self._read(site)
            if stored.shape != (len(keep), self.width):
                raise ConfigError(
                    f"model stored: {self._files[site].name} is {list(stored.shape)}, but the rows table and the other "
                    f"sites ask for {[len(keep), self.width]}. Each row of the table is one row at every site."
                )
            x[site] = stored[torch.from_numpy(keep)]
        return Capture(x, self._rows[keep].reset_index(drop=True))

    @cached_property
    def _rows(self) -> pd.DataFrame:
        path = next((self._folder / name for name in _ROWS if (self._folder / name).is_file()), None)
        if path is None:
            raise ConfigError(f"model stored: {self._folder} has no rows table; add {' or '.join(_ROWS)}.")
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        if "document" not in table:
            raise ConfigError(f"model stored: {path} has no column 'document'. It has: {', '.join(table.columns)}.")
        if table["document"].isna().any():
            raise ConfigError(f"model stored: {path} has rows without a document. Give every row one.")
        columns: dict[str, Any] = {
            name: table[name].to_numpy() for name in table.columns if name in ("window", "special")
        }
        columns["document"] = table["document"].astype(str)
        columns.setdefault("window", np.zeros(len(table)))
        # Rows of a document are taken to be in order where nothing else is said.
        in_order = table.groupby(["document", pd.Series(columns["window"])]).cumcount()
        columns["position"] = table.get("position", in_order).to_numpy()
        columns |= {name: table[name].astype("Int64").array for name in ("start", "end") if name in table}
        return make_rows(columns)

    def _read(self, site: str) -> Float[Tensor, "n d"]:
        path = self._files[site]
        try:
            if path.suffix == ".npy":
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
            return dict(json.loads(path.read_text()))
        except ValueError as error:
            raise ConfigError(f"model stored: {path} is not JSON: {error}.") from error

    def _unknown_tokenizer(self) -> str:
        """A hash that no other rows share: positions can't be compared without knowing the tokenizer."""
        tables = [self._folder / name for name in _ROWS if (self._folder / name).is_file()]
        return "unknown-" + "-".join(file_digest(path)[:16] for path in tables)
