"""The neighbours of a pole: poles that are near in the dictionary, or active on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.contracts.decomposition import Decomposition
from harness.latents.activations import POLES, LatentActivations, Pole, PoleId

N_NEAREST = 5
N_CANDIDATES = 50
MIN_COSINE = 0.1
"""Cosine below which directions are unrelated: those of a rotation are orthogonal but for rounding, and the nearest of
random directions in some hundred dimensions are about as near as this."""


def nearest(decomposition: Decomposition, index: int, sign: int, n: int = N_NEAREST) -> list[dict[str, Any]]:
    """The other rows of the dictionary with the largest cosine with a pole's direction.

    For signed latents the size of the cosine counts, as they have both poles. Rows of norm 0 have no direction.
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

    def of(self, pole: Pole) -> list[PoleId]:
        """Up to `N_CANDIDATES` poles of other latents, the nearest first.

        They are ordered by cosine, and of a signed latent it is the pole that points the same way. Where there is no
        dictionary, or it is that of a rotation, they are ordered by co-firing: rows where both are active over rows
        where either is (Jaccard).
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

    def _cofiring(self, pole: Pole) -> list[PoleId]:
        rows, poles = self._active
        own = pole.rows[pole.is_active]
        is_own = np.zeros(int(max(rows.max(initial=-1), own.max(initial=-1))) + 1, dtype=bool)
        is_own[own] = True
        both = np.bincount(poles[is_own[rows]], minlength=len(self._n_active))
        both[2 * pole.index : 2 * pole.index + 2] = 0
        overlap: Float[np.ndarray, " p"] = both / np.maximum(len(own) + self._n_active - both, 1)
        order = np.argsort(-overlap, kind="stable")[:N_CANDIDATES]
        return [(int(other) // 2, POLES[int(other) % 2]) for other in order if both[other]]
