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
from harness.plugins.similarities.spectra import Spectra

_EPS = torch.finfo(torch.float64).eps


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
    pilot_norms4: float
    """Σ‖z‖⁴ around the pilot."""

    @cached_property
    def trace(self) -> float:
        """Σ‖x‖², which bounds all products by Cauchy–Schwarz."""
        return float(self.products.trace())

    @cached_property
    def eigen(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """The eigenvalues of XᵀX, largest first, and the eigenvectors as columns."""
        values, vectors = torch.linalg.eigh(self.products)
        return values.flip(0), vectors.flip(1)

    @cached_property
    def scales(self) -> Float[Tensor, " d"]:
        """The norm of each centred column; 0 for one whose spread float64 can't tell from none."""
        squares, around = self.products.diagonal(), self.n_rows * (8 * _EPS * self.mean).square()
        return torch.where(squares > torch.maximum(around, 8 * _EPS * self.pilot_squares), squares, 0).sqrt()

    @cached_property
    def standardised_eigen(self) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Eigenvalues and vectors of the products of columns over their norms, which no scale of a column makes small.

        Rows of the vectors are over the norms once more, as whiteners need them.
        """
        inverse = torch.where(self.scales > 0, self.scales.reciprocal(), 0)
        values, vectors = torch.linalg.eigh(inverse[:, None] * self.products * inverse)
        return values.flip(0), vectors.flip(1) * inverse[:, None]


@dataclass(frozen=True)
class CentredMoments:
    """Sums over each of two sides, and over both together: the centred x [n, d1] and y [n, d2]."""

    x: Scatter
    y: Scatter
    xy: Float[Tensor, "d1 d2"]
    """XᵀY"""
    norm_products: float
    """Σ‖x‖²‖y‖²"""
    pilot_norm_products: float
    """Σ‖z_x‖²‖z_y‖² around the pilots, against which rounding of `norm_products` is small."""
    doubt: Callable[[], Callable[[], CentredMoments]] | None = None
    """Set where XᵀY comes from products in float32: asks for float64, and returns a function for the exact moments."""

    spectra: Spectra | None = None
    """Set on a card that computes the singular values of many pairs together."""

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
