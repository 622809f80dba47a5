"""Inference-time decomposition of activations (Leask, Nanda & Al Moubayed 2025, arXiv 2505.17769), judged again.

The dictionary starts empty and the first row becomes an atom. Each block of `batch_rows` rows is encoded once by
matching pursuit; rows whose relative error ‖x−x̂‖²/‖x‖² is above the threshold are candidates. They are visited by
falling error (ties: stream order); each is judged again with the dictionary as it then stands, and becomes an atom if
it is still above. Nothing is learnt after `max_atoms`.

A variant of the pursuit (orthogonal, non-negative) is the one that judges rows as well as the one that encodes: a
candidate is what this very pursuit could not explain.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from harness.plugins.methods import ITDAConfig
from harness.plugins.methods.growing_dictionary import GrowingDictionary
from harness.plugins.methods.linear import centred
from harness.plugins.methods.matching_pursuit import MatchingPursuit, PursuitDecomposition, unit_rows


class ITDA:
    """ITDA in one pass over the rows; with `centre` their mean is taken before it, and subtracted."""

    passes = 1

    def __init__(self, config: ITDAConfig) -> None:
        self.config = config
        self.batch_rows = config.batch_rows

    def start(self, info: harness.Info) -> None:
        self._mean = info.mean() if self.config.centre else None
        self._variant = {
            "orthogonal": self.config.pursuit == "orthogonal",
            "non_negative": self.config.non_negative,
        }
        self._dictionary = GrowingDictionary("itda", self.config, info, **self._variant)

    def partial_fit(self, batch: harness.Batch) -> None:
        x = centred(batch.x, self._mean)
        if not self._dictionary.is_full:
            self._learn(unit_rows(x), batch)
        self._dictionary.end_block(x)

    def finish(self) -> harness.Decomposition:
        self._dictionary.check("Give centre: true, which subtracts the mean first")
        return ITDADecomposition(self._dictionary, self.config.k, self._mean, **self._variant)

    def _learn(self, unit: Float[Tensor, "b d"], batch: harness.Batch) -> None:
        dictionary = self._dictionary
        if not dictionary.pursuit.n_atoms:
            dictionary.add(unit, batch, unit.any(dim=1).nonzero().squeeze(1)[:1])
        if not dictionary.is_full:
            dictionary.add(unit, batch, _admitted(unit, dictionary.pursuit, self.config.threshold))


class ITDADecomposition(PursuitDecomposition):
    """Matching pursuit over atoms that are rows of the fit stream, at unit norm."""

    def __init__(
        self, learnt: GrowingDictionary, k: int, mean: Float[Tensor, " d"] | None = None, **variant: bool
    ) -> None:
        super().__init__(learnt.pursuit.atoms.clone(), k, mean, **variant)
        self.atoms = learnt.identities
        self.rows_until_full = learnt.rows_until_full
        """Rows of the stream, in whole blocks, after which no atom could be added; None if the cap was never hit."""

    def report(self) -> dict[str, float | None]:
        """The number of rows of the stream after which the dictionary was full; None if it never was."""
        return {"rows_until_full": self.rows_until_full}


def _admitted(unit: Float[Tensor, "b d"], pursuit: MatchingPursuit, threshold: float) -> Int[Tensor, " a"]:
    """The places of the rows that become atoms, in the order in which they do."""
    # A row's error never rises from one step to the next: its pursuit may end at the threshold.
    error = pursuit.encode(unit, tolerance=threshold).error
    above = (error > threshold).nonzero().squeeze(1)
    order = above[error[above].argsort(descending=True, stable=True)]
    n = pursuit.n_atoms
    pursuit.extend(unit[order])
    judge = MatchingPursuit.judge if pursuit.is_compiled else _judge_together
    entered = judge(pursuit, len(order), threshold)
    pursuit.truncate(n)
    return order[entered]


def _judge_together(pursuit: MatchingPursuit, n_candidates: int, threshold: float) -> Bool[Tensor, " c"]:
    """True for each candidate that enters; candidates are the last atoms of the pursuit.

    Judging one after the other takes a pursuit for each. The same comes out of judging all at once: give
    each the dictionary with every earlier candidate in it. A pursuit that took only atoms that did enter is the one
    that the definition asks for, since the greedy choice among many is the choice among fewer when it lies there. So
    what it says is settled; a candidate that is rejected is barred, and only the rows that had taken it are pursued
    again. The earliest unsettled one always settles.
    """
    n, candidates = pursuit.n_atoms - n_candidates, pursuit.atoms[pursuit.n_atoms - n_candidates :]
    barred = torch.ones(len(candidates), len(candidates), dtype=torch.bool, device=candidates.device).triu()
    taken = torch.zeros(len(candidates), pursuit.k, dtype=torch.long, device=candidates.device)
    error = candidates.new_zeros(len(candidates))
    # Of all atoms, the old ones first: sure to be in the dictionary; sure to be not.
    entered = torch.arange(pursuit.n_atoms, device=candidates.device) < n
    rejected = torch.zeros_like(entered)
    again = torch.arange(len(candidates), device=candidates.device)
    while len(again):
        pursued = pursuit.encode(candidates[again], tolerance=threshold, barred=barred[again] | rejected[n:])
        taken[again], error[again] = pursued.indices, pursued.error
        _settle(taken, error > threshold, entered, rejected)
        again = (rejected[taken].any(dim=1) & ~(entered | rejected)[n:]).nonzero().squeeze(1)
    return entered[n:]


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
