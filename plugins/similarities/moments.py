"""First and second moments of row-aligned representations in one pass: all that linear metrics need.

A row x becomes features around a pilot p (the mean of its place's first block), and two places the matrix G:

    φ = [z, ‖z‖², 1],   z = x − p;      G = Σ φ_x φ_yᵀ,   of shape [d1 + 2, d2 + 2]

G holds Σ z_x z_yᵀ, Σ ‖z_y‖² z_x, Σ z_x, Σ ‖z_x‖²‖z_y‖², n and so on: one matrix product per block gives them all.
Around a pilot moved by b the features are linear in the old ones, [z − b, ‖z‖² − 2 b·z + ‖b‖², 1], so G can be moved
without the rows: to the mean, or to the pilot of other sums. A masked row has φ = 0, so it is in no sum of any pair.

Sums are kept in float64, and around a pilot, because sums around zero lose everything when the mean is large against
the spread: at a mean of 3,000, float32 rows keep 3 digits of their variance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from harness.plugins.similarities.cards import multiplies_float64_quickly
from harness.plugins.similarities.centred_moments import CentredMoments, Imprecise, Scatter
from harness.plugins.similarities.inputs import check_aligned
from harness.plugins.similarities.pairings import Pairings
from harness.plugins.similarities.spectra import Spectra

_BLOCK_ROWS = 4096
_EPS = torch.finfo(torch.float64).eps


class JointMoments:
    """Moments of many pairs of places from one reading of their rows, all in float64.

    A pair's numbers depend on its own rows and blocks only, not on which other pairs are summed beside it.

    Args:
        pairs: names of places to compare. A place in any number of pairs is summed once, as is a pair given both ways.
        same_rows: for places that hold the rows of another one in another order, the name of that one.
        read_again: of no use here, since one reading is enough.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], same_rows: Mapping[str, str] | None = None, read_again: object = None
    ) -> None:
        self._same_rows = dict(same_rows or {})
        self._pairs = dict.fromkeys((self._original(place), self._original(place)) for pair in pairs for place in pair)
        for x, y in pairs:
            if (y, x) not in self._pairs:
                self._pairs[x, y] = None
        self._pilots: dict[str, Float[Tensor, " d"]] = {}
        self._sums: dict[tuple[str, str], Float[Tensor, "_ _"]] = {}
        self._scatters: dict[str, Scatter] = {}
        self._spectra = Spectra()

    @property
    def widths(self) -> dict[str, int]:
        """The widths of the places that have had rows."""
        return {place: len(pilot) for place, pilot in self._pilots.items()}

    @torch.no_grad()
    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        """Add one block of the aligned rows of every place; True in `masked` leaves a row out of all of its pairs."""
        self._scatters.clear()
        for place, x in rows.items():
            if place not in self._pilots and not masked[place].all():
                self._pilots[place] = self._pilot(place, x, masked[place])
        self._add_block({place: x for place, x in rows.items() if place in self._pilots}, masked)

    def merge(self, other: Self) -> None:
        """Add the rows that `other`, of the same places, has seen; it is left unchanged."""
        self._scatters.clear()
        steps = {}
        for place, pilot in other._pilots.items():
            self._pilots.setdefault(place, pilot)
            steps[place] = self._pilots[place] - pilot
        for (x, y), sums in other._sums.items():
            moved = _moved(sums, steps[x], steps[y])
            self._sums[x, y] = self._sums[x, y] + moved if (x, y) in self._sums else moved

    def pair(
        self,
        x: str,
        y: str,
        without_x: Float[Tensor, "j d1"] | None = None,
        without_y: Float[Tensor, "k d2"] | None = None,
    ) -> CentredMoments:
        """The moments of a pair, either way round, over the rows that neither side masks.

        Args:
            x: one place.
            y: the other.
            without_x: the rows of x that y masks and x does not; x has summed them for its other pairs.
            without_y: the same for y.
        """
        if not self._sums:
            raise harness.Undefined("no rows")
        own_x, own_y = self._scatter(x, without_x), self._scatter(y, without_y)
        sums = self._sums[x, y] if self._key(x, y) == (x, y) else self._sums[y, x].T
        if not int(sums[-1, -1]) == own_x.n_rows == own_y.n_rows:
            raise harness.HarnessError(f"moments of {x} and {y}: without_x, without_y are not the rows masked opposite")
        steps = own_x.mean - self._pilots[x], own_y.mean - self._pilots[y]
        moved = _products_moved(sums, *steps), _norm_products_moved(sums, *steps)
        spectra = self._spectra if multiplies_float64_quickly(sums.device) else None
        return CentredMoments(own_x, own_y, *moved, pilot_norm_products=float(sums[-2, -2]), spectra=spectra)

    def _key(self, x: str, y: str) -> tuple[str, str]:
        """The order of the two places in which the products of a pair are summed."""
        return (x, y) if (x, y) in self._sums else (y, x)

    def _original(self, place: str) -> str:
        return self._same_rows.get(place, place)

    def _pilot(self, place: str, x: Float[Tensor, "b d"], masked: Bool[Tensor, " b"]) -> Float[Tensor, " d"]:
        return x[~masked].double().mean(dim=0)

    def _features(self, place: str, x: Float[Tensor, "b d"], masked: Bool[Tensor, " b"]) -> Float[Tensor, "b d+2"]:
        return features_around(self._pilots[place], x, masked)

    def _add_block(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        features = {place: self._features(place, x, masked[place]) for place, x in rows.items()}
        for x, y in self._pairs:
            if x in features and y in features:
                self._add((x, y), features[x].T @ features[y])

    def _add(self, pair: tuple[str, str], products: Float[Tensor, "d1+2 d2+2"]) -> None:
        if pair not in self._sums:
            self._sums[pair] = torch.zeros_like(products, dtype=torch.float64)
        self._sums[pair] += products

    def _scatter(self, place: str, without: Float[Tensor, "j d"] | None) -> Scatter:
        place = self._original(place)
        if without is None or not len(without):
            if place not in self._scatters:
                self._scatters[place] = _scatter(self._sums[place, place], self._pilots[place])
            return self._scatters[place]
        left_out = features_around(self._pilots[place], without)
        return _scatter(self._sums[place, place] - left_out.T @ left_out, self._pilots[place])


class Moments:
    """Moments of one pair. Any order and split of rows over `update` and `merge` gives the same up to rounding."""

    def __init__(self, kind: type[JointMoments] = JointMoments) -> None:
        self._joint = kind([("x", "y")])

    def update(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> None:
        """Add rows. Work is matrix products of blocks; memory beyond the sums does not grow with n."""
        check_aligned(x, y)
        self._check_widths({"x": x.shape[1], "y": y.shape[1]})
        for x_block, y_block in zip(x.split(_BLOCK_ROWS), y.split(_BLOCK_ROWS), strict=True):
            none = torch.zeros(len(x_block), dtype=torch.bool, device=x.device)
            self._joint.update({"x": x_block, "y": y_block}, {"x": none, "y": none})

    def merge(self, other: Moments) -> None:
        """Add the rows that `other` has seen; it is left unchanged."""
        self._check_widths(other._joint.widths)
        self._joint.merge(other._joint)

    def centred(self) -> CentredMoments:
        """The sums around the mean of all rows so far."""
        return self._joint.pair("x", "y")

    def _check_widths(self, given: dict[str, int]) -> None:
        have = self._joint.widths
        if have and given and have != given:
            so_far, now = ((widths["x"], widths["y"]) for widths in (have, given))
            raise harness.ConfigError(f"rows of widths {so_far} so far, now {now}; reset() before another pair.")


class MomentSimilarity(ABC):
    """A similarity over representations that needs no more of the rows than their moments."""

    streams = True
    statistics: type[JointMoments] = JointMoments
    """The class that sums moments of rows that can be read again; of those that can't, all is summed in float64."""

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def value(self, moments: CentredMoments) -> float:
        """The metric's value; may raise Imprecise where the moments are not exact."""

    def compute_from(self, moments: CentredMoments) -> float | Callable[[], float]:
        """The value; or, if that needs products in float64, a function to call after all metrics have been asked."""
        try:
            return self.value(moments)
        except Imprecise:
            if moments.doubt is None:
                raise
            exact = moments.doubt()
            return lambda: self.value(exact())

    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        moments = Moments()
        moments.update(x, y)
        return self.value(moments.centred())

    @torch.no_grad()
    def permuted(
        self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], orders: Iterable[Int[Tensor, " n"]]
    ) -> Iterator[float]:
        """The value for each order of the rows of y; sums over one side, and its eigenvectors, are those of all orders.

        Products of both sides are made in float32 where those of a run may be.
        """
        moments = Moments()
        moments.update(x, y)
        pairings = Pairings(moments.centred(), x, y, self.statistics is not JointMoments)
        for order in orders:
            found = self.compute_from(pairings.moments(order))
            yield found() if callable(found) else found

    def reset(self) -> None:
        """Forget all rows."""
        self._moments = Moments()

    def update(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> None:
        """Add rows; n may differ from call to call."""
        self._moments.update(x, y)

    def merge(self, other: Self) -> None:
        """Add the rows that `other` has seen."""
        self._moments.merge(other._moments)

    def compute(self) -> float:
        """The metric over all rows seen since the last reset."""
        return self.value(self._moments.centred())


def features_around(
    pilot: Float[Tensor, " d"], x: Float[Tensor, "b d"], masked: Bool[Tensor, " b"] | None = None
) -> Float[Tensor, "b d+2"]:
    """φ of rows, in the dtype of the pilot; 0 for masked ones."""
    b, d = x.shape
    features = pilot.new_ones(b, d + 2)
    z = features[:, :d]
    torch.sub(x, pilot, out=z)
    features[:, d] = torch.linalg.vecdot(z, z)
    if masked is not None:
        features[masked] = 0
    return features


def _moved(sums: Float[Tensor, "d1+2 d2+2"], b_x: Tensor, b_y: Tensor) -> Float[Tensor, "d1+2 d2+2"]:
    """Sums around pilots that lie b_x and b_y further."""
    return _moved_left(_moved_left(sums, b_x).T, b_y).T


def _moved_left(sums: Float[Tensor, "d1+2 d2+2"], b: Float[Tensor, " d1"]) -> Float[Tensor, "d1+2 d2+2"]:
    z, norm, one = sums[:-2], sums[-2], sums[-1]
    return torch.cat([z - torch.outer(b, one), (norm - 2 * b @ z + b.dot(b) * one)[None], one[None]])


def _products_moved(sums: Float[Tensor, "d1+2 d2+2"], b_x: Tensor, b_y: Tensor) -> Float[Tensor, "d1 d2"]:
    """The products of `_moved` alone: two updates of rank 1."""
    z, one = sums[:-2], sums[-1]
    by_one = z[:, -1] - one[-1] * b_x
    return torch.addr(z[:, :-2], b_x, one[:-2], alpha=-1).addr_(by_one, b_y, alpha=-1)


def _norm_products_moved(sums: Float[Tensor, "d1+2 d2+2"], b_x: Tensor, b_y: Tensor) -> float:
    """The sum of ‖x‖²‖y‖² of `_moved` alone."""
    z, norm, one = sums[:-2], sums[-2], sums[-1]
    by_norm = norm - 2 * b_x @ z + b_x.dot(b_x) * one
    return float(by_norm[-2] - 2 * b_y.dot(by_norm[:-2]) + b_y.dot(b_y) * by_norm[-1])


def _scatter(sums: Float[Tensor, "d+2 d+2"], pilot: Float[Tensor, " d"]) -> Scatter:
    n = int(sums[-1, -1])
    if not n:
        raise harness.Undefined("no rows")
    step = sums[:-2, -1] / n
    mean, centred = pilot + step, _moved(sums, step, step)
    # Spread that float64 could not have told from none at this distance from the origin.
    if centred[:-2, :-2].trace() <= n * (8 * _EPS * mean.norm()) ** 2:
        centred = torch.zeros_like(centred)
    return Scatter(n, mean, centred[:-2, :-2], float(centred[-2, -2]), sums.diagonal()[:-2], float(sums[-2, -2]))
