"""Orthogonal Procrustes distance of two representations of the same rows, as an angle or as a length.

Centre the rows of each side, X [n, d1] and Y [n, d2], and scale each to ‖X‖_F = ‖Y‖_F = 1. The best rotation (or
reflection) Q of one side leaves min_Q ‖X − YQ‖²_F = 2 − 2ν (Schönemann 1966), with the nuclear norm ‖·‖_*:

    ν = ‖XᵀY‖_* / (‖X‖_F ‖Y‖_F), from 0 to 1

Forms:
    angular: arccos ν, radians from 0 to π/2. The angular shape metric of Williams et al. 2021 (arXiv 2110.14739) for
        rotations; a metric: symmetric, 0 only for equal shapes, with the triangle inequality.
    normalised: √(2 − 2ν), from 0 to √2. The distance itself; Ding et al. 2021 (arXiv 2108.01661) report its square.

Both are distances: 0 is most similar. Sides of different widths are compared as if the narrower one had columns of
zeros up to the width of the other, which changes no number. Because ν is near 1 for near shapes, where both forms are
√(2 − 2ν) to first order, a distance of 0 comes out as up to 1e-6.

In a run float32 rows are multiplied in float32 first, where ν was off by 1e-7 at most (SmolLM2's rows rotated, also
with a mean of 3,000, or with one direction that has most of the variance). ν changes by ⟨U Vᵀ, dXᵀY⟩ over the norms, U
and V the singular vectors, the angle by that over √(1 − ν²): pairs for which `rounding` leaves more than 1e-6 are
multiplied again in float64. So all near ones are, whose distances were off by up to 3e-4.

On a card with quick float64 singular values come from Gram matrices, all pairs together, where their error leaves less
than 1e-6 of the angle (see `spectra`); those of near shapes, and of spectra that fall over many orders, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from harness.plugins.similarities import ProcrustesConfig
from harness.plugins.similarities.centred_moments import CentredMoments, Imprecise
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import MomentSimilarity
from harness.plugins.similarities.rounding import LARGEST_ERROR, ROUNDING_32, size


class Procrustes(MomentSimilarity):
    """Distance of two sides after the best rotation; 0 for a side and itself."""

    higher_is_more_similar = False
    symmetric = True
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})

    statistics = FloatMoments

    def __init__(self, config: ProcrustesConfig) -> None:
        super().__init__()
        self.form = config.form

    @property
    def range(self) -> tuple[float, float]:
        """The range of the distance, whose ends are at ν = 1 and ν = 0."""
        return (0.0, math.pi / 2 if self.form == "angular" else math.sqrt(2))

    def value(self, moments: CentredMoments) -> float:
        """The distance from sums over the centred rows."""
        moments.check_spread()
        # The roots first: the product of the squares may leave the range of float64.
        scale = math.sqrt(moments.x.trace) * math.sqrt(moments.y.trace)
        u, values, v = torch.linalg.svd(moments.xy, full_matrices=False)
        nu = min(1.0, float(values.sum()) / scale)
        if not moments.is_exact:
            error = ROUNDING_32 * size(u @ v, moments.x, moments.y) / scale
            if error > LARGEST_ERROR * math.sqrt(1 - nu**2):
                raise Imprecise(f"ν is {nu:.4f}, with an error of up to {error:.0e} from products in float32")
        return self._distance(nu)

    def compute_from(self, moments: CentredMoments) -> float | Callable[[], float]:
        """The distance; on some cards a function for it, to call when all pairs have been asked."""
        if moments.spectra is None or not moments.is_exact:
            return super().compute_from(moments)
        moments.check_spread()
        take, scale = moments.spectra.of(moments.xy), math.sqrt(moments.x.trace) * math.sqrt(moments.y.trace)

        def found() -> float:
            spectrum = take()
            nu = min(1.0, float(spectrum.values.sum()) / scale)
            if float(spectrum.errors.sum()) / scale > LARGEST_ERROR * math.sqrt(1 - nu**2):
                return self.value(moments)
            return self._distance(nu)

        return found

    def _distance(self, nu: float) -> float:
        return math.acos(nu) if self.form == "angular" else math.sqrt(2 - 2 * nu)
