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
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from plugins.methods import ITDAConfig
from plugins.methods.matching_pursuit import ATOM_COLUMNS, MatchingPursuit, PursuitDecomposition, unit_rows

# A cap that is hit before this share of the stream has left enough of it unseen to be worth a word.
_EARLY = 0.9


class ITDA:
    """One pass over the rows; with `centre`, less their mean."""

    passes = 1

    def __init__(self, config: ITDAConfig) -> None:
        self.config = config
        self.batch_rows = config.batch_rows

    def start(self, info: harness.Info) -> None:
        self._info = info
        self._mean = info.mean() if self.config.centre else None
        self._n_seen = 0
        self._n_seen_before_cut: int | None = None
        """Rows seen when the first block came of which not all that should have entered did."""
        self._pursuit: MatchingPursuit | None = None
        self._identities: list[pd.DataFrame] = []
        self._rows_until_full: int | None = None

    def partial_fit(self, batch: harness.Batch) -> None:
        self._n_seen += len(batch.x)
        if self._rows_until_full is None:
            x = batch.x if self._mean is None else (batch.x - self._mean).to(batch.x.dtype)
            self._learn(unit_rows(x), batch)

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
            self._pursuit = MatchingPursuit(unit[taken], self.config.k, self.config.max_atoms + self.batch_rows)
        n_free = self.config.max_atoms - self._pursuit.n_atoms
        if n_free:
            admitted = _admitted(unit, self._pursuit, self.config.threshold)
            if len(admitted) > n_free:
                self._n_seen_before_cut = self._n_seen - len(batch.x)
            admitted = admitted[:n_free]
            self._pursuit.extend(unit[admitted])
            taken += admitted.tolist()
        if taken:
            self._identities.append(batch.rows.iloc[taken][ATOM_COLUMNS])
        if self._pursuit.n_atoms == self.config.max_atoms:
            self._rows_until_full = self._n_seen

    def _warn_if_full_early(self) -> None:
        n_rows, full, cut = self._info.n_rows, self._rows_until_full, self._n_seen_before_cut
        if full is not None and min(full, n_rows if cut is None else cut) < _EARLY * n_rows:
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

    def report(self) -> dict[str, float | None]:
        """When the dictionary was full, if it ever was."""
        return {"rows_until_full": self.rows_until_full}


def _admitted(unit: Float[Tensor, "b d"], pursuit: MatchingPursuit, threshold: float) -> Int[Tensor, " a"]:
    """The places of the rows that become atoms, in the order in which they do.

    Judging one candidate after the other takes a pursuit for each. The same comes out of judging all at once: give
    each the dictionary with every earlier candidate in it. A pursuit that took only atoms that did enter is the one
    that the definition asks for, since the greedy choice among many is the choice among fewer when it lies there. So
    what it says is settled; a candidate that is rejected is barred, and only the rows that had taken it are pursued
    again. The earliest unsettled one always settles.
    """
    # A row's error never rises from one step to the next: its pursuit may end at the threshold.
    error = pursuit.encode(unit, tolerance=threshold).error
    above = (error > threshold).nonzero().squeeze(1)
    order = above[error[above].argsort(descending=True, stable=True)]
    n, candidates = pursuit.n_atoms, unit[order]
    pursuit.extend(candidates)
    barred = torch.ones(len(order), len(order), dtype=torch.bool, device=unit.device).triu()
    taken = torch.zeros(len(order), pursuit.k, dtype=torch.long, device=unit.device)
    error = torch.zeros_like(error[order])
    # Of all atoms, the old ones first: sure to be in the dictionary; sure to be not.
    entered = torch.arange(n + len(order), device=unit.device) < n
    rejected = torch.zeros_like(entered)
    again = torch.arange(len(order), device=unit.device)
    while len(again):
        pursued = pursuit.encode(candidates[again], tolerance=threshold, barred=barred[again] | rejected[n:])
        taken[again], error[again] = pursued.indices, pursued.error
        _settle(taken, error > threshold, entered, rejected)
        again = (rejected[taken].any(dim=1) & ~(entered | rejected)[n:]).nonzero().squeeze(1)
    pursuit.truncate(n)
    return order[entered[n:]]


def _settle(
    taken: Int[Tensor, "c k"], above: Bool[Tensor, " c"], entered: Bool[Tensor, " m"], rejected: Bool[Tensor, " m"]
) -> None:
    """Decide, in place, on every candidate whose pursuit took nothing but atoms that have entered."""
    n = len(entered) - len(taken)
    while True:
        ready = entered[taken].all(dim=1) & ~(entered | rejected)[n:]
        if not ready.any():
            return
        entered[n:] |= ready & above
        rejected[n:] |= ready & ~above
