"""Rows under matching pursuit: the state of a chunk of them, and the steps that change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Limits(NamedTuple):
    """The numbers that stop a row or cast doubt on a pick, for rows and atoms of unit norm."""

    tolerance: float
    """The largest error at which a row stops."""
    margin: float
    """The largest difference of correlations that are compared anew in a higher precision."""
    least: float
    """The correlation that a pick must exceed, or its row stops; plain matching pursuit does without."""


@dataclass
class PursuedRows:
    """Rows under matching pursuit: a step takes the picked atom from what is left of the row."""

    residual: Float[Tensor, "b d"]
    values: Float[Tensor, "b k"]
    indices: Int[Tensor, "b k"]
    error: Float[Tensor, " b"]
    barred: Bool[Tensor, "b p"]

    def take(self, step: int, picks: Int[Tensor, " b"], atoms: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Subtract each row's picked atom, and return the coefficients."""
        coefficients = (self.residual * atoms).sum(dim=1, keepdim=True)
        self.residual.addcmul_(atoms, coefficients, value=-1)
        self.values[:, step : step + 1] = coefficients
        self._note(step, picks)
        return coefficients

    def only(self, chosen: Bool[Tensor, " b"] | Int[Tensor, " c"]) -> Self:
        """Copies of some of the rows."""
        return type(self)(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def split(self, n_rows: int) -> Iterator[PursuedRows]:
        """Views of at most so many rows at a time."""
        tensors = (self.residual, self.values, self.indices, self.error, self.barred)
        return map(PursuedRows, *(tensor.split(n_rows) for tensor in tensors))

    def put(self, places: Int[Tensor, " c"], rows: PursuedRows) -> None:
        """Take over what has been found for the rows at these places."""
        self.values[places], self.indices[places], self.error[places] = rows.values, rows.indices, rows.error

    def _note(self, step: int, picks: Int[Tensor, " b"]) -> None:
        self.indices[:, step] = picks
        self.error = torch.linalg.vector_norm(self.residual, dim=1).square()


@dataclass
class OrthogonallyPursuedRows(PursuedRows):
    """Rows under orthogonal matching pursuit: the coefficients of all atoms taken are those of least squares.

    The atoms taken are triangleᵀ·basis with orthonormal rows in `basis` (Gram–Schmidt), and their coefficients c solve
    triangle·c = basis·x. What a step adds to the basis is all that it takes from the residual.
    """

    basis: Float[Tensor, "b k d"]
    triangle: Float[Tensor, "b k k"]
    projections: Float[Tensor, "b k"]

    @classmethod
    def start(cls, rows: PursuedRows) -> OrthogonallyPursuedRows:
        (n, d), k = rows.residual.shape, rows.values.shape[1]
        new = rows.residual.new_zeros
        return cls(**vars(rows), basis=new(n, k, d), triangle=new(n, k, k), projections=new(n, k))

    def take(self, step: int, picks: Int[Tensor, " b"], atoms: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Refit with each row's picked atom, and return how much of the new direction the row had."""
        basis = self.basis[:, :step]
        # Once is enough: an atom that is nearly spanned, for which it would not be, is hardly ever the strongest.
        overlaps = (atoms[:, None] @ basis.mT).squeeze(1)
        direction = atoms - (overlaps[:, None] @ basis).squeeze(1)
        norms = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
        direction = direction / norms
        projections = (self.residual * direction).sum(dim=1, keepdim=True)
        self.residual.addcmul_(direction, projections, value=-1)
        self.basis[:, step] = direction
        self.triangle[:, :step, step] = overlaps
        self.triangle[:, step, step] = norms.squeeze(1)
        self.projections[:, step : step + 1] = projections
        n = step + 1
        solved = torch.linalg.solve_triangular(self.triangle[:, :n, :n], self.projections[:, :n, None], upper=True)
        self.values[:, :n] = solved.squeeze(2)
        self._note(step, picks)
        added: Tensor = projections
        return added
