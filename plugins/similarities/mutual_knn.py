"""Mutual nearest neighbours: do the same rows lie near a row on both sides?

    s = mean over rows i of |N_x(i) ∩ N_y(i)| / k

N_x(i) are the k rows with the largest cosine to row i of x (the inner product of normalised rows), row i left out by
its number and not by its cosine, which equal rows share (`mutual_knn` of Huh et al. 2024, "The Platonic Representation
Hypothesis", arXiv 2405.07987, appendix A, k = 10). In [0, 1]; 1 where all rows have the same neighbours.

Unrelated sides share k/(n−1) of their neighbours by chance: a value means nothing without its n, and values of
different n do not compare. So no smaller sample is ever drawn from the rows; too many are refused.

    centre=False: the cosines of the rows as they are, as published.
    centre=True: the mean over all rows is taken from each side first, so that a mean shared by all rows, as in language
        models, does not decide who is near.

Rows tied for the last places share them (`neighbours.neighbours`), so equal rows, for instance of one token before
the first block, make no order. Memory beside the rows in float64: 0.4 GB for 50,000 rows; time: 5 minutes of one core
for 50,000 rows of 576.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.similarities import MutualKnnConfig
from harness.plugins.similarities.inputs import check_aligned, check_finite, check_n_rows
from harness.plugins.similarities.neighbours import Members, neighbours, overlap, reordered, unit_rows


class MutualKnn:
    """`s(x, y)` in float64; time grows with n², hence `max_rows`."""

    higher_is_more_similar = True
    range = (0.0, 1.0)
    symmetric = True
    streams = False
    max_rows = 50_000

    def __init__(self, config: MutualKnnConfig) -> None:
        self.k = config.k
        self.centre = config.centre

    @property
    def invariant_to(self) -> frozenset[str]:
        """The maps that change no value: cosines depend on the origin, unless it is moved to the mean."""
        translation = {"translation"} if self.centre else set()
        return frozenset({"orthogonal", "isotropic_scale", "permutation"} | translation)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        return self.of_sides(self.of_side("x", x), self.of_side("y", y))

    @torch.no_grad()
    def of_side(self, side: str, rows: Float[Tensor, "n d"]) -> Members:
        """The neighbours of all rows."""
        advice = "Give it fewer rows, equally many wherever values compare."
        check_n_rows("mutual_knn", len(rows), self.max_rows, advice)
        check_finite(side, rows)
        return neighbours(side, self._directions(side, rows), self.k)

    def of_sides(self, of_x: Members, of_y: Members) -> float:
        """The share of each row's neighbours that it has on both sides."""
        return overlap(of_x, of_y)

    @torch.no_grad()
    def permuted(
        self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], orders: Iterable[Int[Tensor, " n"]]
    ) -> Iterator[float]:
        """The value for each order of the rows of y, whose neighbours are found once and named anew."""
        check_aligned(x, y)
        of_x, of_y = self.of_side("x", x), self.of_side("y", y)
        return (overlap(of_x, reordered(of_y, order)) for order in orders)

    def _directions(self, side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        rows = rows.double()
        units = unit_rows(rows - rows.mean(dim=0) if self.centre else rows)
        n_zero = int(units.isnan().any(dim=1).sum())
        if n_zero:
            centred = " once centred" * self.centre
            raise harness.Undefined(
                f"{n_zero} of {len(rows)} rows of {side} are zero{centred}: they have no cosine; leave them out"
            )
        return units
