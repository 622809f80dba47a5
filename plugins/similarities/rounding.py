"""Rounding of moments, and the error that it may bring into a value.

Sums of products XᵀY are off by some E, with entries that are independent and of size η ‖x_i‖ ‖y_j‖, columns of the rows
as they are multiplied, around their pilots. So a value that changes by ⟨C, dXᵀY⟩ where the products change by dXᵀY is
off by some η √Σ C_ij² ‖x_i‖² ‖y_j‖².

In float64 η was 1e-15 to 5e-14 for products of a side with itself, less for others, and is taken as 1e-14: values were
off by a tenth of the error at most. In float32, in which only products of two sides are made, it was 1e-9 to 5e-8 for
all sides that were tried (SmolLM2's rows rotated, few, with a mean of 3,000; one direction, or one row, with most of
the variance; eigenvalues over 10 orders), and is taken as 5e-7.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities.centred_moments import CentredMoments, Imprecise, Scatter

ROUNDING_64 = 1e-14
ROUNDING_32 = 5e-7
LARGEST_ERROR = 1e-6
"""Largest error that a value may have."""


def rounding_of(moments: CentredMoments) -> float:
    """η of the products of both sides."""
    return ROUNDING_64 if moments.is_exact else ROUNDING_32


def size(coefficients: Float[Tensor, "d1 d2"], x: Scatter, y: Scatter) -> float:
    """√Σ C_ij² ‖x_i‖² ‖y_j‖²."""
    scaled = x.pilot_squares.sqrt()[:, None] * coefficients * y.pilot_squares.sqrt()
    largest = scaled.abs().max()  # whose square may leave the range of float64
    return float(largest * (scaled / largest).norm()) if largest > 0 else 0.0


def check_error(error: float, moments: CentredMoments, advice: str) -> None:
    """Refuse a value with an error of more than the largest.

    Raises:
        Imprecise: products in float64 may do.
        Undefined: they do not.
    """
    if error <= LARGEST_ERROR:
        return
    if not moments.is_exact:
        raise Imprecise(f"products in float32 leave an error of up to {error:.0e}")
    much = "much" if not math.isfinite(error) else f"{error:.0e}"
    raise harness.Undefined(f"rounding leaves an error of up to {much}, more than {LARGEST_ERROR:.0e}: {advice}")
