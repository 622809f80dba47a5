"""Atoms drawn at random: the baseline that a dictionary learner has to beat."""

from __future__ import annotations

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods import RandomDictionaryConfig
from harness.plugins.methods.linear import centred
from harness.plugins.methods.matching_pursuit import ATOM_COLUMNS, PursuitDecomposition, unit_rows


class RandomDictionary:
    """Rows of the stream, drawn uniformly without replacement, or Gaussian directions.

    Each row gets a random key and the rows with the smallest keys stay (bottom-k sampling, Cohen & Kaplan 2007): every
    set of rows is equally likely, in one pass. Zero rows have no direction and are not drawn; equal rows are distinct.
    """

    passes = 1
    batch_rows = 2048

    def __init__(self, config: RandomDictionaryConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        self._info = info
        self._generator = info.generator("atoms")
        self._mean = info.mean() if self.config.centre else None
        self._keys = torch.empty(0, dtype=torch.float64)
        self._rows = torch.empty(0, info.width, dtype=info.dtype, device=info.device)
        self._identities = pd.DataFrame(columns=ATOM_COLUMNS)
        if self.config.source == "rows":
            self._require(info.n_rows)

    def partial_fit(self, batch: harness.Batch) -> None:
        if self.config.source == "gaussian":
            return
        x = centred(batch.x, self._mean)
        keys = torch.rand(len(x), generator=self._generator, dtype=torch.float64)
        keys[~x.any(dim=1).cpu()] = torch.inf
        last = self._keys[-1] if len(self._keys) == self.config.n_latents else torch.inf
        entering = (keys < last).nonzero().squeeze(1)
        if len(entering):
            self._insert(keys[entering], x[entering.to(x.device)], batch.rows.iloc[entering.numpy()])

    def finish(self) -> harness.Decomposition:
        if self.config.source == "gaussian":
            shape = (self.config.n_latents, self._info.width)
            directions = torch.randn(shape, generator=self._generator, dtype=torch.float64)
            return PursuitDecomposition(unit_rows(directions).to(self._rows), self.config.k, self._mean)
        self._require(len(self._rows))
        n = self.config.n_latents
        decomposition = PursuitDecomposition(unit_rows(self._rows[:n]), self.config.k, self._mean)
        decomposition.atoms = self._identities[:n].reset_index(drop=True)
        return decomposition

    def _insert(self, keys: Tensor, rows: Float[Tensor, "b d"], identities: pd.DataFrame) -> None:
        """Keep the smallest keys, in rising order."""
        keys = torch.cat([self._keys, keys])
        kept = keys.argsort(stable=True)[: self.config.n_latents]
        self._keys = keys[kept]
        self._rows = torch.cat([self._rows, rows])[kept.to(rows.device)]
        tables = [table for table in (self._identities, identities[ATOM_COLUMNS]) if len(table)]
        self._identities = pd.concat(tables).iloc[kept.numpy()]

    def _require(self, n_rows: int) -> None:
        if n_rows < self.config.n_latents:
            raise harness.Undefined(
                f"random_dictionary: n_latents is {self.config.n_latents}, but the stream has only {n_rows} usable "
                "rows (rows of norm 0 are not used). Give fewer latents, more text, or source='gaussian'."
            )
