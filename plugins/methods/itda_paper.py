"""ITDA as published (Leask, Nanda & Al Moubayed 2025, arXiv 2505.17769, and its code), quirks included.

Equal to the published code where that keeps the order of ties: it sorts by `torch.sort`, which does not promise to.

Until there are d atoms, a batch's distinct rows become atoms, most frequent first; ties go by the raw coordinates, in
lexicographic order, so the result depends on the basis. Then the batch (the same one too) is encoded by plain
matching pursuit, and every row whose error is above the threshold becomes an atom, all at once: near-duplicates of one
batch enter together, and larger batches give larger dictionaries. The error of a row is the mean over its coordinates

    1/d · ‖x/‖x‖ − x̂/‖x̂‖‖² = 2(1 − cos(x, x̂))/d,    and 1/d where x̂ = 0, as in the code.

So a threshold means something else at each width: 4e-4 asks for cos ≥ .846 at d = 768, .795 at d = 1,024, and of
d = 5,000 on nothing is above it. The dictionary is cropped at `max_atoms`, where learning stops.

A row that occurs in two batches before there are d atoms enters twice, as published. What still differs here: rows
come shuffled and without padding, special tokens and sinks, where the published script takes prompts in order with
padding among the candidates; and rows of norm 0 are never atoms.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from harness.plugins.methods import ITDAPaperConfig
from harness.plugins.methods.growing_dictionary import GrowingDictionary
from harness.plugins.methods.itda import ITDADecomposition
from harness.plugins.methods.matching_pursuit import MatchingPursuit, unit_rows

_ROUNDING = 1e-4
"""Relative rounding error of a residual's squared norm, valid while that is above `_LEAST_TOLERANCE`."""
_LEAST_TOLERANCE = 1e-5


class ITDAPaper:
    """ITDA as published, in one pass over the rows."""

    passes = 1

    def __init__(self, config: ITDAPaperConfig) -> None:
        self.config = config
        self.batch_rows = config.batch_rows

    def start(self, info: harness.Info) -> None:
        self._dictionary = GrowingDictionary("itda_paper", self.config, info)

    def partial_fit(self, batch: harness.Batch) -> None:
        if not self._dictionary.is_full:
            self._learn(unit_rows(batch.x), batch)
        self._dictionary.end_block(batch.x)

    def finish(self) -> harness.Decomposition:
        self._dictionary.check("As published, this method keeps the mean; method itda subtracts it")
        return ITDADecomposition(self._dictionary, self.config.k)

    def _learn(self, unit: Float[Tensor, "b d"], batch: harness.Batch) -> None:
        dictionary = self._dictionary
        n_missing = unit.shape[1] - dictionary.pursuit.n_atoms
        if n_missing > 0:
            dictionary.add(unit, batch, _most_frequent(batch.x)[:n_missing])
        if dictionary.pursuit.n_atoms and not dictionary.is_full:
            is_above = _is_above(unit, dictionary.pursuit, self.config.threshold)
            dictionary.add(unit, batch, is_above.nonzero().squeeze(1))


def _most_frequent(x: Float[Tensor, "b d"]) -> Int[Tensor, " u"]:
    """The first place of each distinct row that is not zero, the most frequent first."""
    distinct, number, counts = x.unique(dim=0, return_inverse=True, return_counts=True)  # in lexicographic order
    places = torch.arange(len(x), device=x.device)
    first = torch.full_like(counts, len(x)).scatter_reduce(0, number, places, "amin")
    order = counts.argsort(descending=True, stable=True)
    return first[order[distinct[order].any(dim=1)]]


def _is_above(unit: Float[Tensor, "b d"], pursuit: MatchingPursuit, threshold: float) -> Bool[Tensor, " b"]:
    """True for each row whose error is above the threshold.

    A row stops where no further step could put it there. What is left of a row of norm 1 never grows, and once it has
    norm r, cos(x, x̂) ≥ √(1 − r²).
    """
    cosine = 1 - unit.shape[1] * threshold / 2
    tolerance = (1 - cosine**2) * (1 - _ROUNDING)
    pursued = pursuit.encode(unit, tolerance if cosine > 0 and tolerance > _LEAST_TOLERANCE else None)
    reconstruction = harness.decode_linear(harness.Codes(pursued.values, pursued.indices), pursuit.atoms)
    return (unit - unit_rows(reconstruction)).square().mean(dim=1) > threshold
