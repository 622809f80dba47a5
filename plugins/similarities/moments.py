"""First and second moments of two row-aligned representations in one pass: all that linear metrics need.

Sums are kept in float64 around a pilot (the mean of the first block), because sums around zero lose everything when
the mean is large against the spread: at a mean of 3,000, float32 rows keep 3 digits of their variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.similarities.inputs import check_aligned

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class CentredMoments:
    """Sums over n rows of the centred x [n, d1] and y [n, d2]; float64."""

    n_rows: int
    mean_x: Float[Tensor, " d1"]
    mean_y: Float[Tensor, " d2"]
    xx: Float[Tensor, "d1 d1"]
    """XᵀX"""
    yy: Float[Tensor, "d2 d2"]
    """YᵀY"""
    xy: Float[Tensor, "d1 d2"]
    """XᵀY"""
    norm_products: Float[Tensor, "2 2"]
    """Σ‖x‖⁴, Σ‖x‖²‖y‖²; Σ‖x‖²‖y‖², Σ‖y‖⁴"""


class Moments:
    """Adds rows up. In any order and any split, `update` and `merge` give the same to rounding."""

    def __init__(self) -> None:
        self._sums: _Sums | None = None

    @torch.no_grad()
    def update(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> None:
        """Add rows. Work is float64 matrix products of blocks; memory beyond the sums does not grow with n."""
        check_aligned(x, y)
        if self._sums is not None:
            _check_widths(self._sums.widths, (x.shape[1], y.shape[1]))
        for x_block, y_block in zip(x.split(_BLOCK_ROWS), y.split(_BLOCK_ROWS), strict=True):
            if len(x_block) == 0:
                continue
            z = torch.cat([x_block.double(), y_block.double()], dim=1)
            if self._sums is None:
                self._sums = _Sums.around(z.mean(dim=0), width_x=x.shape[1])
            self._sums.add(z)

    def merge(self, other: Moments) -> None:
        """Add the rows that another has seen; it stays as it is."""
        if other._sums is None:
            return
        if self._sums is None:
            self._sums = _Sums.around(other._sums.pilot, other._sums.width_x)
        _check_widths(self._sums.widths, other._sums.widths)
        moved = other._sums.moved(self._sums.pilot)
        self._sums.n_rows += moved.n_rows
        self._sums.total += moved.total
        self._sums.scatter += moved.scatter
        self._sums.norm_weighted += moved.norm_weighted
        self._sums.norm_products += moved.norm_products

    def centred(self) -> CentredMoments:
        """The sums around the mean of all rows so far."""
        if self._sums is None:
            raise harness.Undefined("no rows")
        sums = self._sums.moved(self._sums.pilot + self._sums.total / self._sums.n_rows)
        d1 = sums.width_x
        return CentredMoments(
            n_rows=sums.n_rows,
            mean_x=sums.pilot[:d1],
            mean_y=sums.pilot[d1:],
            xx=sums.scatter[:d1, :d1],
            yy=sums.scatter[d1:, d1:],
            xy=sums.scatter[:d1, d1:],
            norm_products=sums.norm_products,
        )


@dataclass
class _Sums:
    """Sums over rows z = [x y] − pilot, with r = [‖x − pilot_x‖², ‖y − pilot_y‖²]; D = d1 + d2."""

    n_rows: int
    width_x: int
    pilot: Float[Tensor, " D"]
    total: Float[Tensor, " D"]
    """Σ z"""
    scatter: Float[Tensor, "D D"]
    """Σ z zᵀ"""
    norm_weighted: Float[Tensor, "2 D"]
    """Σ r zᵀ: needed only to move the pilot under `norm_products`."""
    norm_products: Float[Tensor, "2 2"]
    """Σ r rᵀ"""

    @classmethod
    def around(cls, pilot: Float[Tensor, " D"], width_x: int) -> _Sums:
        """Sums of no rows."""
        d = len(pilot)
        zeros = pilot.new_zeros
        return cls(0, width_x, pilot, zeros(d), zeros(d, d), zeros(2, d), zeros(2, 2))

    @property
    def widths(self) -> tuple[int, int]:
        return self.width_x, len(self.pilot) - self.width_x

    def add(self, z: Float[Tensor, "b D"]) -> None:
        d1, z = self.width_x, z - self.pilot
        x, y = z[:, :d1], z[:, d1:]
        norms = torch.stack([x.square().sum(dim=1), y.square().sum(dim=1)])
        self.n_rows += len(z)
        self.total += z.sum(dim=0)
        self.scatter[:d1, :d1].addmm_(x.T, x)
        self.scatter[:d1, d1:].addmm_(x.T, y)
        self.scatter[d1:, d1:].addmm_(y.T, y)
        self.scatter[d1:, :d1] = self.scatter[:d1, d1:].T
        self.norm_weighted.addmm_(norms, z)
        self.norm_products.addmm_(norms, norms.T)

    def moved(self, pilot: Float[Tensor, " D"]) -> _Sums:
        """The same sums around another pilot.

        With z' = z − b and, per side s, r'ₛ = rₛ − 2 bₛ·zₛ + ‖bₛ‖², every new sum is a polynomial of the old ones.
        """
        d1, n, total, scatter = self.width_x, self.n_rows, self.total, self.scatter
        b = pilot - self.pilot
        sides = torch.stack([b, b])
        sides[0, d1:], sides[1, :d1] = 0, 0
        b_norms = sides.square().sum(dim=1)
        diagonal = scatter.diagonal()
        norms = torch.stack([diagonal[:d1].sum(), diagonal[d1:].sum()])
        along = sides @ total
        outer = torch.outer(total, b)
        half = (
            self.norm_products / 2
            - 2 * self.norm_weighted @ sides.T
            + 2 * sides @ scatter @ sides.T
            + torch.outer(norms - 2 * along + n / 2 * b_norms, b_norms)
        )
        return _Sums(
            n_rows=n,
            width_x=d1,
            pilot=pilot,
            total=total - n * b,
            scatter=scatter - outer - outer.T + n * torch.outer(b, b),
            norm_weighted=self.norm_weighted
            - 2 * sides @ scatter
            + torch.outer(b_norms, total)
            - torch.outer(norms - 2 * along + n * b_norms, b),
            norm_products=half + half.T,
        )


def _check_widths(have: tuple[int, int], given: tuple[int, int]) -> None:
    if have != given:
        raise harness.ConfigError(f"rows of widths {have} so far, now {given}; reset() before another pair.")
