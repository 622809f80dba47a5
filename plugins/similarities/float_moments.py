"""Moments by products in float32, in half the time; and in float64 for the pairs that a metric doubts.

On a card that multiplies float64 as quickly (an A100, an H100) all is in float64, and nothing is read again. Values are
then within the error of products in float32, 1e-6, of those of a CPU; exact ones agree to 1e-9.

The products of a place with itself are always made in float64: rounding would give directions that the rows do not
have. Products of two places are made in float32 where blocks are large: rounding averages out in them, and small ones
cost little.

For most pairs that is enough: on rows of SmolLM2 values of CKA agree to 1e-7. Where `rounding` says that it may leave
more than 1e-6 of a value, metrics raise `Imprecise`: CKA where few rows have most of the variance, debiased also where
its terms cancel; SVCCA and regression where coefficients are large; Procrustes where shapes are near (rounding gives a
rotated copy a distance of up to 3e-4). The rows are then read once more for all such pairs together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import harness
from harness.plugins.similarities.cards import multiplies_float64_quickly
from harness.plugins.similarities.centred_moments import CentredMoments
from harness.plugins.similarities.moments import JointMoments, features_around

# Of rows, rounding in float32 averages out over many only, and over many columns: sums of few values round one way.
_FEW_ROWS = 512
_FEW_COLUMNS = 64
# Squares of norms whose squares, summed over a block, float32 holds.
_SMALLEST, _LARGEST = 1e-16, 1e16


class FloatMoments(JointMoments):
    """Moments of many pairs, with large blocks of float32 rows of two places multiplied in float32.

    Float64 rows are multiplied as they are.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        same_rows: Mapping[str, str] | None = None,
        read_again: Callable[[Collection[str]], Iterator[harness.AlignedBlock]] | None = None,
    ) -> None:
        super().__init__(pairs, same_rows)
        self._read_again = read_again
        self._are_rough: set[str] = set()
        """Places whose pilot is the mean of few rows: their rows may be far from it."""
        self._rounded: set[tuple[str, str]] = set()
        """Pairs of which rows or products were rounded to float32."""
        self._doubted: set[tuple[str, str]] = set()
        """Pairs whose products a metric needs in float64, so that their rows are to be read again."""

    def merge(self, other: Self) -> None:
        """Add the rows that `other`, of the same places, has seen; it is left unchanged."""
        self._rounded |= other._rounded
        self._are_rough |= other._are_rough - self._pilots.keys()
        super().merge(other)

    def pair(
        self,
        x: str,
        y: str,
        without_x: Float[Tensor, "j d1"] | None = None,
        without_y: Float[Tensor, "k d2"] | None = None,
    ) -> CentredMoments:
        """The moments of a pair, either way round; inexact where products were rounded and are not doubted so far."""
        found, key = super().pair(x, y, without_x, without_y), self._key(x, y)
        if key not in self._rounded:
            return found

        def doubt() -> Callable[[], CentredMoments]:
            self._doubted.add(key)
            # Holds no sums: many pairs may be in doubt at once.
            return lambda: self._in_float64(x, y, without_x, without_y)

        return replace(found, doubt=doubt)

    def _pilot(self, place: str, x: Float[Tensor, "b d"], masked: Bool[Tensor, " b"]) -> Float[Tensor, " d"]:
        if int((~masked).sum()) < _FEW_ROWS:
            self._are_rough.add(place)
        # Rounded, so that rows of float32 lose nothing around it.
        return super()._pilot(place, x, masked).to(self._product_dtype(place, x)).double()

    def _add_block(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        quick = {place: self._quick_features(place, x, masked[place]) for place, x in rows.items()}
        for x, y in self._pairs:
            if x not in quick or y not in quick:
                continue
            if quick[x].dtype == quick[y].dtype == torch.float64:
                self._add((x, y), quick[x].T @ quick[y])
            elif x == y:
                exact = self._features(x, rows[x], masked[x])
                self._add((x, x), exact.T @ exact)
            else:
                self._rounded.add((x, y))
                self._add((x, y), _product(quick[x], quick[y]))

    def _product_dtype(self, place: str, x: Float[Tensor, "b d"]) -> torch.dtype:
        if multiplies_float64_quickly(x.device):
            return torch.float64
        is_small = len(x) < _FEW_ROWS or x.shape[1] < _FEW_COLUMNS
        return torch.float64 if is_small or place in self._are_rough else torch.promote_types(torch.float32, x.dtype)

    def _quick_features(
        self, place: str, x: Float[Tensor, "b d"], masked: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b d+2"]:
        features = features_around(self._pilots[place].to(self._product_dtype(place, x)), x, masked)
        if features.dtype != torch.float64 and not _SMALLEST < features[:, -2].max() < _LARGEST:
            return self._features(place, x, masked)
        return features

    def _in_float64(self, x: str, y: str, without_x: Tensor | None, without_y: Tensor | None) -> CentredMoments:
        if self._doubted:
            self._multiply_again()
        return self.pair(x, y, without_x, without_y)

    @torch.no_grad()
    def _multiply_again(self) -> None:
        """Replace the products of all doubted pairs by those in float64."""
        if self._read_again is None:
            raise harness.HarnessError("a value needs products in float64, but the rows can't be read again.")
        for pair in self._doubted:
            self._sums[pair].zero_()
        for rows, masked in self._read_again({place for pair in self._doubted for place in pair}):
            exact = {place: self._features(place, x, masked[place]) for place, x in rows.items()}
            for x, y in self._doubted:
                self._sums[x, y] += exact[x].T @ exact[y]
        self._rounded -= self._doubted
        self._doubted.clear()


def _product(x: Float[Tensor, "b d1"], y: Float[Tensor, "b d2"]) -> Float[Tensor, "d1 d2"]:
    return x.T @ y if x.dtype == y.dtype else x.T.double() @ y.double()
