"""Several sites of one model as one: their rows side by side, or the union of their atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.capturing.activations import Features
from harness.contracts.decomposition import Codes, Decomposition
from harness.errors import HarnessError


class JoinedActivations:
    """The features of several sites for the same tokens; joined as they are read, so that nothing else is held."""

    def __init__(self, sites: Sequence[Features]) -> None:
        self._sites = sites
        self.n_rows: int = sites[0].n_rows
        self.width: int = sum(site.width for site in sites)

    def take(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """The rows at these places, in float32; d is the sum of the sites' widths."""
        return torch.cat([site.take(index) for site in self._sites], dim=1)


class JoinedAtoms(Decomposition):
    """The tokens that are atoms at any of several sites, and those that were candidates at any. From which sites atoms
    come is forgotten; candidates are numbered by theirs. It has no vectors.
    """

    def __init__(self, sites: Sequence[Decomposition]) -> None:
        self.atoms = _union([site.atoms for site in sites])
        self.candidates = _pools([site.candidates for site in sites])
        self.tokenizer_hash = sites[0].tokenizer_hash
        self.n_latents = 0 if self.atoms is None else len(self.atoms)

    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        raise HarnessError("the atoms of several sites are no vectors of one space; encode with the fit of a site.")

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        raise HarnessError("the atoms of several sites are no vectors of one space; decode with the fit of a site.")


def _union(tables: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    """The rows of all tables, each token once; None where a site has no table."""
    known = [table for table in tables if table is not None]
    return pd.concat(known).drop_duplicates(ignore_index=True) if len(known) == len(tables) else None


def _pools(tables: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    """The rows of all tables, each token once, with a number `pool` that those have in common which the same tables
    have: where fits were full after different numbers of rows, a token that few could take is the less likely an atom.
    """
    places = _union(tables)
    if places is None:
        return None
    rows = pd.concat([table for table in tables if table is not None])
    place_of_row = rows.groupby(list(places.columns), sort=False, dropna=False).ngroup().to_numpy()
    pool = np.zeros(len(places), dtype=np.int64)
    ends = np.cumsum([0 if table is None else len(table) for table in tables])
    for of_table in np.split(place_of_row, ends[:-1]):
        has = np.zeros(len(places), dtype=np.int64)
        has[of_table] = 1
        pool = pd.factorize(2 * pool + has)[0]
    return places.assign(pool=pool)
