"""Centred kernel alignment of two representations of the same rows (Kornblith et al. 2019, arXiv 1905.00414, eq. 2).

    CKA(K, L) = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)),   K, L [n, n]: the kernels of x and of y

Kernels:
    linear: K = XXᵀ.
    rbf: K = exp(−δ²/2σ²), δ the Euclidean distance of two rows, σ = bandwidth × the median of the off-diagonal δ of
        that side, so that the scale of a side does not matter.

Estimators of HSIC (the same for all three):
    biased (Gretton et al. 2005): tr(KHLH)/(n−1)², H = I − 11ᵀ/n. In [0, 1] after the ratio; well above 0 for
        unrelated rows where n is not much larger than the widths.
    debiased (Song et al. 2012, HSIC₁), with K̃ and L̃ the kernels with a zero diagonal, n ≥ 4:
        [tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1)/((n−1)(n−2)) − 2·1ᵀK̃L̃1/(n−2)] / (n(n−3)).
        Near 0 for unrelated rows, and below 0 as often as above. Each HSIC is unbiased, their ratio is not quite.
    minibatch (Nguyen, Raghu & Kornblith 2021, arXiv 2010.15327, eq. 3): the debiased HSIC of each minibatch of 256
        consecutive rows, added up; each is centred by its own means. Of rows that come in the order of their texts a
        minibatch holds a few documents, so what tells documents apart counts less than over all rows. A smaller last
        minibatch counts by n(n−3), as the sums do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.similarities import CkaConfig
from harness.plugins.similarities.centred_moments import CentredMoments, Scatter
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.inputs import check_aligned, check_n_rows
from harness.plugins.similarities.minibatch import KernelProducts, MinibatchKernels, u_centre
from harness.plugins.similarities.moments import MomentSimilarity
from harness.plugins.similarities.rounding import ROUNDING_64, check_error, rounding_of, size

# A self-HSIC that is smaller than this share of the terms it is the difference of is rounding error.
_ROUNDING = 1e-12
# Products from which on float64 has all of its digits.
_SMALLEST = 1e-290
_Self: TypeAlias = tuple[float, float]
"""The HSIC of a side with itself, and the level of its rounding error."""


def make(config: CkaConfig) -> LinearCka | MinibatchCka | RbfCka:
    """Make CKA for a kernel: the linear one needs only moments, so it streams; RBF needs all pairs of rows."""
    if config.estimator == "minibatch":
        return MinibatchCka(config)
    return LinearCka(config) if config.kernel == "linear" else RbfCka(config)


class _Cka:
    higher_is_more_similar = True
    symmetric = True
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "translation", "permutation"})

    def __init__(self, config: CkaConfig) -> None:
        self.debiased = config.estimator != "biased"
        self.bandwidth = config.bandwidth

    @property
    def range(self) -> tuple[float, float]:
        """The range by Cauchy–Schwarz; the debiased HSIC is an inner product, too (Székely & Rizzo 2014)."""
        return (-1.0, 1.0) if self.debiased else (0.0, 1.0)

    def _check_n_rows(self, n_rows: int) -> None:
        if self.debiased and n_rows < 4:
            raise harness.Undefined(f"debiased CKA needs 4 rows, got {n_rows}")


class LinearCka(_Cka, MomentSimilarity):
    """CKA with the linear kernel, from the sums of centred products, without any n × n matrix.

    With S = XᵀY and so on over the centred rows (Kornblith et al. 2019, section 3), in units of (n−1)² and n(n−3):
        biased: ‖S_xy‖²_F.
        debiased: ‖S_xy‖²_F − n/(n−2) · Σ‖x‖²‖y‖² + Σ‖x‖² Σ‖y‖²/((n−1)(n−2)), because K1 = X(Xᵀ1) = 0.
    """

    statistics = FloatMoments

    def __init__(self, config: CkaConfig) -> None:
        _Cka.__init__(self, config)
        MomentSimilarity.__init__(self)

    def value(self, moments: CentredMoments) -> float:
        """CKA from sums over the centred rows."""
        n, x, y = moments.n_rows, moments.x, moments.y
        self._check_n_rows(n)
        xy = self._hsic(n, moments.xy, moments.norm_products, x.trace * y.trace)
        own = [self._hsic(n, side.products, side.norms4, side.trace**2) for side in (x, y)]
        terms = [self._terms(n, side.products, side, side, side.pilot_norms4) for side in (x, y)]
        found = _ratio(xy, *((hsic, ROUNDING_64 * term) for hsic, term in zip(own, terms, strict=True)))
        error = rounding_of(moments) * self._terms(n, moments.xy, x, y, moments.pilot_norm_products) / _scale(*own)
        error += ROUNDING_64 / 2 * abs(found) * (terms[0] / own[0] + terms[1] / own[1])
        check_error(
            error, moments, "few rows have most of the variance, or n is small; leave out far rows, or take more"
        )
        return found

    def _hsic(self, n: int, scatter: Tensor, norm_products: float, traces: float) -> float:
        """The HSIC without the constant that cancels in the ratio."""
        biased = float(scatter.square().sum())
        if not self.debiased:
            return biased
        return biased - n / (n - 2) * norm_products + traces / ((n - 1) * (n - 2))

    def _terms(self, n: int, scatter: Tensor, x: Scatter, y: Scatter, norm_products: float) -> float:
        """The rounding error of an HSIC over η: the HSIC changes by 2⟨S, dS⟩, and by that of its other terms."""
        terms = 2 * size(scatter, x, y)
        return terms + n / (n - 2) * norm_products if self.debiased else terms


class MinibatchCka(_Cka):
    """CKA with the linear kernel from minibatches. Which rows share one depends on their order, so none merge."""

    streams = False
    statistics = MinibatchKernels

    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        kernels = MinibatchKernels([("x", "y")])
        none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        kernels.update({"x": x, "y": y}, {"x": none, "y": none})
        return self.compute_from(kernels.pair("x", "y"))

    def compute_from(self, sums: KernelProducts) -> float:
        """CKA from sums over minibatches."""
        self._check_n_rows(sums.n_rows)
        return _ratio(sums.xy, (sums.xx, _ROUNDING * sums.norm_x), (sums.yy, _ROUNDING * sums.norm_y))


class RbfCka(_Cka):
    """CKA with the RBF kernel, in float64; three n × n matrices are held at once, hence `max_rows`."""

    streams = False
    max_rows = 10_000

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        kernel_x, kernel_y, *of_sides = self._kernels(x, y)
        return _ratio(_dot(kernel_x, kernel_y), *of_sides)

    @torch.no_grad()
    def permuted(
        self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], orders: Iterable[Int[Tensor, " n"]]
    ) -> Iterator[float]:
        """The value for each order of the rows of y, whose kernel is made once."""
        kernel_x, kernel_y, *of_sides = self._kernels(x, y)
        for order in orders:
            yield _ratio(_dot(kernel_x, kernel_y[order][:, order]), *of_sides)

    def _kernels(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> tuple[Tensor, Tensor, _Self, _Self]:
        """The centred kernels of both sides, and the HSIC of each with itself."""
        check_aligned(x, y)
        n = len(x)
        check_n_rows("cka with kernel='rbf'", n, self.max_rows, "Give it fewer rows, or use kernel='linear'.")
        self._check_n_rows(n)
        kernel_x, kernel_y = (self._centred_kernel(side, rows) for side, rows in (("x", x), ("y", y)))
        # Entries of the kernels are at most 1, so this is the square of their rounding error.
        floor = (_ROUNDING * n) ** 2
        return kernel_x, kernel_y, (_dot(kernel_x, kernel_x), floor), (_dot(kernel_y, kernel_y), floor)

    def _centred_kernel(self, side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        n = len(rows)
        # Not by a matrix product, which gives equal rows a distance above 0.
        distances = torch.pdist(rows.double())
        sigma = self.bandwidth * _median(distances) if n > 1 else 0.0
        if sigma == 0:
            raise harness.Undefined(f"the median distance between rows of {side} is 0: most of its rows are equal")
        kernel = rows.new_zeros(n, n, dtype=torch.float64)
        upper = torch.ones(n, n, dtype=torch.bool, device=rows.device).triu_(1)
        kernel.masked_scatter_(upper, distances.div_(sigma).square_().mul_(-0.5).exp_())
        kernel = kernel + kernel.T
        return u_centre(kernel) if self.debiased else _centre(kernel.fill_diagonal_(1.0))


def _centre(kernel: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Centre K to HKH, in place; tr(KHLH) is the sum of the products of the entries of HKH and HLH."""
    means = kernel.mean(dim=0)
    return kernel.sub_(means).sub_(means[:, None]).add_(means.mean())


def _median(values: Float[Tensor, " n"]) -> float:
    """The median as the mean of the two middle values; torch.median is the lower one."""
    return (values.median().item() - (-values).median().item()) / 2


def _dot(a: Float[Tensor, "n n"], b: Float[Tensor, "n n"]) -> float:
    return torch.dot(a.flatten(), b.flatten()).item()


def _ratio(xy: float, xx_and_floor: _Self, yy_and_floor: _Self) -> float:
    """HSIC(x, y) over the geometric mean of the two self-HSICs, each given with the level of its rounding error."""
    for side, (hsic, floor) in (("x", xx_and_floor), ("y", yy_and_floor)):
        if not hsic > floor:
            raise harness.Undefined(f"the HSIC of {side} with itself is not above 0: its rows are constant or too few")
    scale = _scale(xx_and_floor[0], yy_and_floor[0])
    if not (0 < scale < math.inf and math.isfinite(xy)):
        raise harness.Undefined("the scales of x and y leave the range of float64; rescale them")
    return xy / scale


def _scale(xx: float, yy: float) -> float:
    """√(xx · yy), also where the product leaves the range of float64."""
    product = xx * yy
    return math.sqrt(product) if _SMALLEST < product < math.inf else math.sqrt(xx) * math.sqrt(yy)
