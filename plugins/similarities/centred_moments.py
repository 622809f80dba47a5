"""Sums over the centred rows of two sides: what linear metrics compute their values from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

import harness


class Imprecise(Exception):
    """Raised by a metric if products in float32 are too imprecise for its value."""


@dataclass(frozen=True)
class Scatter:
    """Sums over n centred rows x [n, d] of one side; float64."""

    n_rows: int
    mean: Float[Tensor, " d"]
    products: Float[Tensor, "d d"]
    """XᵀX"""
    norms4: float
    """Σ‖x‖⁴"""
    pilot_squares: Float[Tensor, " d"]
    """Σz² around the pilot, against which the rounding of products is small."""

    @cached_property
    def trace(self) -> float:
        """Σ‖x‖², which bounds all products by Cauchy–Schwarz."""
        return float(self.products.trace())

    @cached_property
    def eigen(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """The eigenvalues of XᵀX, largest first, and the eigenvectors as columns."""
        values, vectors = torch.linalg.eigh(self.products)
        return values.flip(0), vectors.flip(1)


@dataclass(frozen=True)
class CentredMoments:
    """Sums over each of two sides, and over both together: the centred x [n, d1] and y [n, d2]."""

    x: Scatter
    y: Scatter
    xy: Float[Tensor, "d1 d2"]
    """XᵀY"""
    norm_products: float
    """Σ‖x‖²‖y‖²"""
    doubt: Callable[[], Callable[[], CentredMoments]] | None = None
    """Set where XᵀY comes from products in float32: asks for float64, and returns a function for the exact moments."""

    @property
    def is_exact(self) -> bool:
        """True if XᵀY, too, comes from rows and products in float64."""
        return self.doubt is None

    @property
    def n_rows(self) -> int:
        return self.x.n_rows

    def check_spread(self) -> None:
        """Refuse a side whose rows do not differ, or whose squares float64 can't hold."""
        for name, side in (("x", self.x), ("y", self.y)):
            if not math.isfinite(side.trace):
                raise harness.Undefined(f"the scale of {name} leaves the range of float64; rescale it")
            if not side.trace > 0:
                raise harness.Undefined(f"the rows of {name} are constant")
