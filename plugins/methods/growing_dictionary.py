"""A dictionary that rows of the stream enter until a cap is hit; what the learners of ITDA share."""

from __future__ import annotations

import warnings

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods import ITDAConfig, ITDAPaperConfig
from harness.plugins.methods.matching_pursuit import ATOM_COLUMNS, MatchingPursuit

# A cap that is hit before this share of the stream has left enough of it unseen to be worth a word.
_EARLY = 0.9
# A mean that holds more than this share of ‖x‖² hides the variance around it from errors that are relative to ‖x‖².
_MOST = 0.5


class GrowingDictionary:
    """Atoms with the identities of the rows that they were, in the order in which they entered."""

    def __init__(self, method: str, config: ITDAConfig | ITDAPaperConfig, info: harness.Info, **variant: bool) -> None:
        """Start empty; `variant` names the options of the pursuit that judges rows."""
        self._method, self._config, self._n_rows = method, config, info.n_rows
        no_atoms = torch.empty(0, info.width, dtype=info.dtype, device=info.device)
        self.pursuit = MatchingPursuit(no_atoms, config.k, config.max_atoms + config.batch_rows, **variant)
        self._identities: list[pd.DataFrame] = []
        self._n_seen = 0
        self._sum = torch.zeros(info.width, dtype=torch.float64, device=info.device)
        self._sum_of_squares = torch.zeros((), dtype=torch.float64, device=info.device)
        self._n_seen_before_cut: int | None = None
        """Number of rows seen before the first block from which the cap kept a row out."""
        self.rows_until_full: int | None = None
        """Rows of the stream, in whole blocks, after which no atom could be added; None if the cap was never hit."""

    @property
    def is_full(self) -> bool:
        return self.pursuit.n_atoms == self._config.max_atoms

    def add(self, unit: Float[Tensor, "b d"], batch: harness.Batch, places: Int[Tensor, " a"]) -> None:
        """Make atoms of these rows of a block, in this order, as far as there is room."""
        entering = places[: self._config.max_atoms - self.pursuit.n_atoms]
        if len(entering) < len(places):
            self._n_seen_before_cut = self._n_seen
        if len(entering):
            self.pursuit.extend(unit[entering])
            self._identities.append(batch.rows.iloc[entering.tolist()][ATOM_COLUMNS])

    def end_block(self, x: Float[Tensor, "b d"]) -> None:
        """Count the rows of a block, whether or not they taught anything."""
        if self.rows_until_full is None:
            self._sum += x.sum(dim=0, dtype=torch.float64)
            self._sum_of_squares += x.double().square().sum()
        self._n_seen += len(x)
        if self.is_full and self.rows_until_full is None:
            self.rows_until_full = self._n_seen

    @property
    def identities(self) -> pd.DataFrame:
        return pd.concat(self._identities, ignore_index=True)

    @property
    def mean_share(self) -> float:
        """The share of the squared norm of rows that their mean holds, ‖mean x‖² over the mean of ‖x‖², up to the block
        that filled the dictionary.
        """
        n_rows = self._n_seen if self.rows_until_full is None else self.rows_until_full
        return float(self._sum.square().sum() / (n_rows * self._sum_of_squares))

    def check(self, advice: str) -> None:
        """Raise where nothing could be learnt; warn where most of the stream taught nothing, or the mean hides it.

        `advice` says what to do against the mean.
        """
        if not self.pursuit.n_atoms:
            raise harness.ConfigError(
                f"{self._method}: every row of the stream has norm 0 (less the mean, where that is subtracted), so "
                "there is nothing to learn from."
            )
        self._warn_of_early_end()
        if self.mean_share > _MOST:
            warnings.warn(
                f"{self._method}: the mean of the rows holds {self.mean_share:.0%} of their squared norm, and errors "
                "are relative to all of that, so rows count as explained whose difference from the mean is not "
                f"({self.pursuit.n_atoms} atoms). {advice}.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _warn_of_early_end(self) -> None:
        full, cut = self.rows_until_full, self._n_seen_before_cut
        if full is not None and (full if cut is None else cut) < _EARLY * self._n_rows:
            n_left = self._n_rows - full
            lost = f"the other {n_left} taught it nothing" if n_left else "for some of the last there was no room"
            warnings.warn(
                f"{self._method}: the dictionary was full ({self._config.max_atoms} atoms) after {full} of "
                f"{self._n_rows} rows; {lost}. Raise max_atoms, or raise threshold (now {self._config.threshold}) so "
                "that fewer rows become atoms.",
                RuntimeWarning,
                stacklevel=2,
            )
