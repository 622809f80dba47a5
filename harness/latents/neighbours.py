"""The poles that are like a pole: near in the dictionary, or active on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.contracts.decomposition import Decomposition
from harness.latents.activations import POLES, LatentActivations, Pole

N_NEAREST = 5
N_CANDIDATES = 50
MIN_COSINE = 0.1
"""Below it directions have nothing to do with each other: those of a rotation are orthogonal but for rounding, and of
those drawn at random in some hundred dimensions the nearest are about as near as this."""

Unit = tuple[int, int]
"""The index and the sign of a pole."""


def nearest(decomposition: Decomposition, index: int, sign: int, n: int = N_NEAREST) -> list[dict[str, Any]]:
    """Other rows of the dictionary by cosine with the pole's direction; of signed latents by its size, as both poles
    count. Rows of norm 0 have no direction.
    """
    if decomposition.dictionary is None:
        return []
    dictionary = decomposition.dictionary.float()
    norms = dictionary.norm(dim=1)
    others = (norms > 0).nonzero().flatten()
    others = others[others != index]
    if not norms[index] > 0 or not len(others):
        return []
    cosines = dictionary[others] @ (sign * dictionary[index]) / (norms[others] * norms[index])
    order = (cosines.abs() if decomposition.signed else cosines).argsort(descending=True, stable=True)[:n]
    pairs = zip(others[order].tolist(), cosines[order].tolist(), strict=True)
    return [{"index": other, "cosine": cosine} for other, cosine in pairs]


@dataclass(frozen=True)
class Neighbours:
    """Finds the neighbours of the poles of one decomposition."""

    decomposition: Decomposition
    activations: LatentActivations

    def of(self, pole: Pole) -> list[Unit]:
        """Up to `N_CANDIDATES` poles of other latents, the nearest first.

        By cosine, of a signed latent the pole that points the same way. Where there is no dictionary, or it is that of
        a rotation, by co-firing: the rows where both are active over those where either is (Jaccard).
        """
        found = nearest(self.decomposition, pole.index, pole.sign, N_CANDIDATES)
        signed = self.decomposition.signed
        by_cosine = [
            (item["index"], -1 if signed and item["cosine"] < 0 else 1)
            for item in found
            if (abs(item["cosine"]) if signed else item["cosine"]) > MIN_COSINE
        ]
        return by_cosine or self._cofiring(pole)

    @cached_property
    def _active(self) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
        """The rows and the poles (2 · index, and 1 more for the negative one) of all activations above thresholds."""
        values, latents = self.activations.values, self.activations.latents
        column = (values < 0).long()  # as in POLES
        is_active = values.abs() > self.activations.thresholds[latents, column]
        return self.activations.rows[is_active].numpy(), (2 * latents + column)[is_active].numpy()

    @cached_property
    def _n_active(self) -> Int[np.ndarray, " p"]:
        return np.bincount(self._active[1], minlength=2 * self.activations.n_latents)

    def _cofiring(self, pole: Pole) -> list[Unit]:
        rows, poles = self._active
        own = pole.rows[pole.is_active]
        is_own = np.zeros(int(max(rows.max(initial=-1), own.max(initial=-1))) + 1, dtype=bool)
        is_own[own] = True
        both = np.bincount(poles[is_own[rows]], minlength=len(self._n_active))
        both[2 * pole.index : 2 * pole.index + 2] = 0
        overlap: Float[np.ndarray, " p"] = both / np.maximum(len(own) + self._n_active - both, 1)
        order = np.argsort(-overlap, kind="stable")[:N_CANDIDATES]
        return [(int(other) // 2, POLES[int(other) % 2]) for other in order if both[other]]
