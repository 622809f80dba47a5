"""Inference-time decomposition of activations (Leask, Nanda & Al Moubayed 2025, arXiv 2505.17769), judged again.

The dictionary starts empty and the first row becomes an atom. Each block of `batch_rows` rows is encoded once by
matching pursuit; rows whose relative error ‖x−x̂‖²/‖x‖² is above the threshold are candidates. They are visited by
falling error (ties: stream order); each is judged again with the dictionary as it then stands, and becomes an atom if
it is still above. Nothing is learnt after `max_atoms`.
"""

from __future__ import annotations

import warnings

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import harness
from plugins.methods import ITDAConfig
from plugins.methods.matching_pursuit import MatchingPursuit, Pursuit, PursuitDecomposition, unit_rows

_ATOM_COLUMNS = ["document", "position", "start", "end"]
# A cap that is hit before this share of the stream has left enough of it unseen to be worth a word.
_EARLY = 0.9
_REJUDGE_ROWS = 64
# Correlations closer than this, relative to the row's norm, count as changed: judging again settles them.
_DOUBT_EPS = 64.0


class ITDA:
    """One pass; two with `centre`, of which the first takes the mean (in float64)."""

    def __init__(self, config: ITDAConfig) -> None:
        self.config = config
        self.passes = 2 if config.centre else 1
        self.batch_rows = config.batch_rows

    def start(self, info: harness.Info) -> None:
        self._info = info
        self._mean = torch.zeros(info.width, dtype=torch.float64, device=info.device) if self.config.centre else None
        self._passes_left = self.passes
        self._n_seen = 0
        """Rows of this pass."""
        self._pursuit: MatchingPursuit | None = None
        self._identities: list[pd.DataFrame] = []
        self._rows_until_full: int | None = None

    def partial_fit(self, batch: harness.Batch) -> None:
        self._n_seen += len(batch.x)
        if self._passes_left == 2:
            assert self._mean is not None  # only centring takes two passes
            self._mean += batch.x.sum(dim=0, dtype=torch.float64) / self._info.n_rows
        elif self._rows_until_full is None:
            x = batch.x if self._mean is None else (batch.x - self._mean).to(batch.x.dtype)
            self._learn(unit_rows(x), batch)
        if self._n_seen == self._info.n_rows:
            self._passes_left -= 1
            self._n_seen = 0

    def finish(self) -> harness.Decomposition:
        if self._pursuit is None:
            raise harness.ConfigError("itda: every row of the stream has norm 0, so there is nothing to learn from.")
        self._warn_if_full_early()
        decomposition = ITDADecomposition(self._pursuit.atoms.clone(), self.config.k, self._mean)
        decomposition.rows_until_full = self._rows_until_full
        decomposition.atoms = pd.concat(self._identities, ignore_index=True)
        return decomposition

    def _learn(self, unit: Float[Tensor, "b d"], batch: harness.Batch) -> None:
        taken: list[int] = []
        if self._pursuit is None:
            nonzero = unit.any(dim=1).nonzero()
            if not len(nonzero):
                return
            taken.append(int(nonzero[0]))
            self._pursuit = MatchingPursuit(unit[taken], self.config.k, self.config.max_atoms)
        n_free = self.config.max_atoms - self._pursuit.n_atoms
        if n_free:
            taken += _Candidates(unit, self._pursuit, self.config.threshold).admit(n_free)
        if taken:
            self._identities.append(batch.rows.iloc[taken][_ATOM_COLUMNS])
        if self._pursuit.n_atoms == self.config.max_atoms:
            self._rows_until_full = self._n_seen

    def _warn_if_full_early(self) -> None:
        n_rows, full = self._info.n_rows, self._rows_until_full
        if full is not None and full < _EARLY * n_rows:
            warnings.warn(
                f"itda: the dictionary was full ({self.config.max_atoms} atoms) after {full} of {n_rows} rows; the "
                f"other {n_rows - full} taught it nothing. Raise max_atoms, or raise threshold (now "
                f"{self.config.threshold}) so that fewer rows become atoms.",
                RuntimeWarning,
                stacklevel=2,
            )


class ITDADecomposition(PursuitDecomposition):
    """Matching pursuit over atoms that are rows of the fit stream, at unit norm."""

    rows_until_full: int | None = None
    """Rows of the stream, in whole blocks, after which no atom could be added; None if the cap was never hit."""


class _Candidates:
    """The rows of one block that are above the threshold, by falling error, with how each was pursued.

    A new atom leaves a row's pursuit as it was unless it beats the atom taken at some step, which the inner products
    of the new atom tell. Only rows that it does change are pursued again, and only when their turn comes, so the
    result is that of judging one by one.
    """

    def __init__(self, unit: Float[Tensor, "b d"], pursuit: MatchingPursuit, threshold: float) -> None:
        self._pursuit, self._threshold = pursuit, threshold
        # A row's error never rises from one step to the next: its pursuit may end at the threshold.
        block = pursuit.encode(unit, tolerance=threshold)
        above = (block.error > threshold).nonzero().squeeze(1)
        self._order = above[block.error[above].argsort(descending=True, stable=True)]
        self._unit = unit[self._order]
        self._pursued = Pursuit(block.values[self._order], block.indices[self._order], block.error[self._order])
        self._stale = torch.zeros(len(self._order), dtype=torch.bool, device=unit.device)

    def admit(self, n_free: int) -> list[int]:
        """Add to the dictionary, up to `n_free` atoms; their places in the block."""
        taken: list[int] = []
        place = 0
        while len(taken) < n_free:
            due = (self._stale[place:] | (self._pursued.error[place:] > self._threshold)).nonzero()
            if not len(due):
                break
            place += int(due[0])
            if self._stale[place]:
                self._judge_again(place)
                continue
            taken.append(place)
            self._pursuit.extend(self._unit[place : place + 1])
            place += 1
            self._stale[place:] |= self._changed(place)
        return self._order[taken].tolist()

    def _judge_again(self, place: int) -> None:
        """Pursue the row at `place` again, and with it the next stale ones: many cost little more than one."""
        stale = self._stale[place:].nonzero().squeeze(1)[:_REJUDGE_ROWS] + place
        again = self._pursuit.encode(self._unit[stale], tolerance=self._threshold)
        self._pursued.values[stale] = again.values
        self._pursued.indices[stale] = again.indices
        self._pursued.error[stale] = again.error
        self._stale[stale] = False

    def _changed(self, place: int) -> Bool[Tensor, " r"]:
        """For the rows from `place` on: whether the newest atom a beats the atom taken at any step, |a·r| ≥ |value|.

        The residual before step t is r = x − Σ_{s<t} value_s · D[index_s], so a·r follows from inner products.
        """
        newest = self._pursuit.n_atoms - 1
        values, indices = self._pursued.values[place:], self._pursued.indices[place:]
        products = self._pursuit.products(newest)
        shares = products[indices] * values
        correlations = (self._unit[place:] @ self._pursuit.atoms[newest])[:, None] - (shares.cumsum(1) - shares)
        margin = _DOUBT_EPS * torch.finfo(values.dtype).eps
        # Steps of value 0 lie after a row's end, but for a row that no atom could lower any further.
        taken = (values != 0) | (self._pursued.error[place:] > self._threshold)[:, None]
        return (taken & (correlations.abs() >= values.abs() - margin)).any(dim=1)
