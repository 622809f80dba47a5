"""Many comparisons at once: which methods can be told apart, where luck has as many chances as there are pairs.

The error of a difference has the parts of both methods on the same documents, so what documents do to both cancels
(Koehn 2004), and for each method what seeds vary by, on its own: its variance is Σ (parts − parts')² + σ²/s + σ'²/s',
with the degrees of freedom of that sum (Welch 1947). Two methods are told apart if the p-value of their difference is
below what the least one of all pairs falls below in 2.5 of 100 draws of methods that are equal: errors are drawn as
normal with the variances that were estimated, and these are estimated anew (the parametric bootstrap of Krishnamoorthy,
Lu & Mathew 2007, Computational Statistics & Data Analysis 51). So of methods that are equal in truth, none are told
apart on at least 95 boards of 100; the rest of the 5 is left to errors that are less normal, and to how little few
seeds say of their variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtr

from harness.tables.intervals import ROUNDING, Replicates

N_DRAWS = 2000
FAMILY_TAIL = 0.025
"""Share of draws in which some pair of equals is told apart."""
_SEED = 0


def apart(values: Sequence[Replicates], pairs: Sequence[tuple[int, int]]) -> Bool[np.ndarray, "k k"]:
    """True for the two of a pair that can be told apart, all of these pairs being judged together."""
    found = np.zeros((len(values), len(values)), dtype=bool)
    if pairs:
        rivals = _Pairs.of(values, *np.array(pairs).T)
        least = rivals.drawn_p_values(np.random.default_rng(_SEED)).min(axis=1)
        is_apart = rivals.p_values() < np.quantile(least, FAMILY_TAIL)
        found[rivals.one, rivals.other] = found[rivals.other, rivals.one] = is_apart
    return found


@dataclass(frozen=True)
class _Pairs:
    """Differences of pairs of methods, and their variances by units and by the seeds of each method."""

    values: Float[np.ndarray, " methods"]
    parts: Float[np.ndarray, "methods units"]
    of_seeds: Float[np.ndarray, " methods"]
    last_seed: Float[np.ndarray, " methods"]
    one: Int[np.ndarray, " pairs"]
    other: Int[np.ndarray, " pairs"]
    of_units: Float[np.ndarray, " pairs"]
    freedom: Float[np.ndarray, " pairs"]

    @classmethod
    def of(
        cls, values: Sequence[Replicates], one: Int[np.ndarray, " pairs"], other: Int[np.ndarray, " pairs"]
    ) -> _Pairs:
        parts, freedom = np.stack([own.parts for own in values]), np.array([own.freedom for own in values])
        return cls(
            values=np.array([own.value for own in values]),
            parts=parts,
            of_seeds=np.array([own.seed_variance for own in values]),
            last_seed=np.array([max(1.0, own.n_seeds - 1) for own in values]),
            one=one,
            other=other,
            of_units=((parts[one] - parts[other]) ** 2).sum(axis=1),
            freedom=np.minimum(freedom[one], freedom[other]),
        )

    def p_values(self) -> Float[np.ndarray, " pairs"]:
        return self._p_values(self.values, self.of_units, self.of_seeds)

    def drawn_p_values(self, generator: np.random.Generator) -> Float[np.ndarray, "draws pairs"]:
        """Draw the p-values of methods that are equal, with errors of these variances."""
        axes, lengths, _ = np.linalg.svd(self.parts, full_matrices=False)
        values = generator.standard_normal((N_DRAWS, len(lengths))) @ (axes * lengths).T
        values += generator.standard_normal(values.shape) * np.sqrt(self.of_seeds)
        of_units = self.of_units * generator.chisquare(self.freedom, (N_DRAWS, len(self.one))) / self.freedom
        of_seeds = self.of_seeds * generator.chisquare(self.last_seed, values.shape) / self.last_seed
        return self._p_values(values, of_units, of_seeds)

    def _p_values(
        self,
        values: Float[np.ndarray, "*draws methods"],
        of_units: Float[np.ndarray, "*draws pairs"],
        of_seeds: Float[np.ndarray, "*draws methods"],
    ) -> Float[np.ndarray, "*draws pairs"]:
        one, other = self.one, self.other
        away = np.abs(values[..., one] - values[..., other])
        variance = of_units + of_seeds[..., one] + of_seeds[..., other]
        last_seeds = (of_seeds**2 / self.last_seed)[..., one] + (of_seeds**2 / self.last_seed)[..., other]
        is_sure = variance <= (ROUNDING * np.abs(self.values).max()) ** 2
        freedom = variance**2 / np.where(is_sure, 1, of_units**2 / self.freedom + last_seeds)
        p_values = 2 * stdtr(np.where(is_sure, 1, freedom), -away / np.sqrt(np.where(is_sure, 1, variance)))
        differs = away > ROUNDING * np.abs(self.values).max()
        return np.asarray(np.where(is_sure, np.where(differs, 0.0, 1.0), p_values))
