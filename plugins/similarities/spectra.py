"""Singular values of many matrices at once, by the eigenvalues of their Gram matrices: the quick way on a card.

One matrix leaves most of a card idle. Here matrices wait until the first of their values is asked for, and all of them
are computed together, those of near sizes filled up with zeros to one.

    σ_i(M)² = λ_i(MᵀM), each off by up to δ = η λ₁:   |σ_i − √λ_i| ≤ min(√δ, δ/√λ_i)

η was 6e-15 at most on a CPU (up to 576 columns; spectra that are flat, fall as 1/i or over 12 orders, or end early; one
value that is 1,000 times the others) and is taken as 3e-14. So sums of values that are within √η of the largest have
all digits that anybody reads; where a metric finds the error too large, it takes the values of the matrix itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

_ROUNDING = 3e-14
_MOST_BYTES = 2**30
"""Bytes of Gram matrices that wait; more are computed at once."""
_STEP = 64
"""Sizes are filled up to a multiple of it: matrices of one size are computed together."""


@dataclass(frozen=True)
class Spectrum:
    """Singular values, and how far off each may be."""

    values: Float[Tensor, " k"]
    errors: Float[Tensor, " k"]

    @classmethod
    def of_eigenvalues(cls, eigenvalues: Float[Tensor, " k"]) -> Spectrum:
        """Read eigenvalues of a Gram matrix, the largest first."""
        values = eigenvalues.clamp(min=0).sqrt()
        delta = _ROUNDING * eigenvalues[0].clamp(min=0)
        return cls(values, torch.minimum(delta.sqrt(), torch.where(values > 0, delta / values, delta.sqrt())))


@dataclass
class Spectra:
    """The matrices that wait for their singular values. A value depends on its own matrix, but for rounding."""

    _waiting: dict[int, Float[Tensor, "k k"]] = field(default_factory=dict)
    _found: dict[int, Spectrum] = field(default_factory=dict)
    _n_asked: int = 0

    def of(self, matrix: Float[Tensor, "a b"]) -> Callable[[], Spectrum]:
        """Have the values of a matrix computed; gives a function to take them, once."""
        number, self._n_asked = self._n_asked, self._n_asked + 1
        self._waiting[number] = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
        if sum(gram.numel() * gram.element_size() for gram in self._waiting.values()) > _MOST_BYTES:
            self._compute()
        return lambda: self._take(number)

    def _take(self, number: int) -> Spectrum:
        if number not in self._found:
            self._compute()
        return self._found.pop(number)

    @torch.no_grad()
    def _compute(self) -> None:
        alike: dict[int, list[int]] = defaultdict(list)
        for number, gram in self._waiting.items():
            alike[-len(gram) // _STEP].append(number)
        for numbers in alike.values():
            grams = [self._waiting.pop(number) for number in numbers]
            size = max(map(len, grams))
            filled = grams[0].new_zeros(len(grams), size, size)
            for place, gram in zip(filled, grams, strict=True):
                place[: len(gram), : len(gram)] = gram
            # The zeros that filling adds are no larger than any other, but for rounding.
            eigenvalues = torch.linalg.eigvalsh(filled).flip(1)
            for number, gram, own in zip(numbers, grams, eigenvalues, strict=True):
                self._found[number] = Spectrum.of_eigenvalues(own[: len(gram)])
