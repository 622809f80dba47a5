"""Matching pursuit over unit-norm atoms, and the decomposition that encodes with it.

Plain matching pursuit (Mallat & Zhang 1993, Matching Pursuits with Time-Frequency Dictionaries): each of k steps
takes the atom with the largest |correlation| with the residual, adds the correlation to that atom's coefficient and
subtracts. Coefficients are signed and an atom can be taken twice. Two variants:

- orthogonal (Pati, Rezaiifar & Krishnaprasad 1993): after each step the coefficients of all atoms taken are fitted anew
  by least squares, so that no atom is taken twice;
- non-negative: the atom with the largest correlation is taken, and where none is above 0 the row stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.linear import centred
from harness.plugins.methods.pursued_rows import Limits, OrthogonallyPursuedRows, PursuedRows
from harness.plugins.methods.pursuit_loops import CompiledLoops, loops_for
from harness.plugins.methods.strongest import first_strongest, whole_groups

ATOM_COLUMNS = ["document", "position", "start", "end"]
"""The identity of a row that became an atom."""

# Above this the correlations are computed anew at each step, by steps in torch on any device: slower, but memory stays
# linear in the atoms. 2 GiB holds 23,170 atoms in float32.
MAX_GRAM_BYTES = 2 * 2**30
# Numbers of a working buffer, in torch and compiled: those of torch stay in the caches of a CPU, while what is compiled
# needs these for one row. A GPU wants more work per kernel: half a GiB.
_CHUNK_NUMBERS = {"cpu": (2**20, 2**23), "cuda": (2**27, 2**27)}
# In units of the rounding error, relative to the row's norm: how far two correlations may both be off after 40 Gram
# updates (7.5 each was the most seen) ...
_DOUBT_EPS = 16.0
# ... and what is left of a row that the atoms span exactly, or the correlation of an atom that has nothing to add.
# Beyond it, steps would fit rounding noise.
_SPANNED_EPS = 8.0


@dataclass(frozen=True)
class Pursuit:
    """The k steps of n rows, in order; steps after a row has stopped have value 0 and index 0."""

    values: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]
    error: Float[Tensor, " n"]
    """The relative squared error ‖x−x̂‖²/‖x‖²; 0 for rows that are zero, of which nothing is left to explain."""


class MatchingPursuit:
    """Atoms and their Gram matrix G = D·Dᵀ, both of which may grow.

    After atom j with coefficient c, a row's correlations change by −c·G[j]: a step costs O(m) instead of O(m·d).
    These updates round, so where the best atoms are closer than the rounding error, they are compared anew from the
    residual (compiled, in float64); the picks are then those of the textbook form.

    Args:
        atoms: the first ones, at unit norm.
        k: steps per row.
        capacity: how many atoms there may come to be; buffers double up to it.
        orthogonal: fit all coefficients anew at each step. After that no column of the Gram matrix gives the new
            correlations, so they are computed from the residual: a step costs O(m·d + k·d).
        non_negative: follow positive correlations only. Not together with `orthogonal`, whose fit has any sign.
    """

    def __init__(
        self,
        atoms: Float[Tensor, "m d"],
        k: int,
        capacity: int = 0,
        *,
        orthogonal: bool = False,
        non_negative: bool = False,
    ) -> None:
        assert not (orthogonal and non_negative)
        self.k = k
        self.orthogonal = orthogonal
        self.non_negative = non_negative
        self.n_atoms = 0
        self._capacity = capacity
        self._atoms = atoms.new_empty(0, atoms.shape[1])
        self._gram: Tensor | None = None if orthogonal else atoms.new_empty(0, 0)
        self._scratch = atoms.new_empty(0)
        self.may_be_compiled = True
        """True to use compiled loops where there are any, and a Gram matrix; the steps in torch pick the same atoms."""
        self.extend(atoms)

    @property
    def atoms(self) -> Float[Tensor, "m d"]:
        return self._atoms[: self.n_atoms]

    @property
    def is_compiled(self) -> bool:
        """True if all steps of a row run in one compiled loop."""
        return self._loops is not None

    @property
    def _loops(self) -> CompiledLoops | None:
        return loops_for(self._atoms) if self.may_be_compiled and self._gram is not None else None

    def extend(self, atoms: Float[Tensor, "p d"]) -> None:
        """Add atoms of unit norm."""
        old, new = self.n_atoms, self.n_atoms + len(atoms)
        if new > len(self._atoms):
            self._reserve(max(new, min(2 * old, self._capacity)))
        self._atoms[old:new] = atoms
        self.n_atoms = new
        if self._gram is not None:
            products = atoms @ self.atoms.T
            self._gram[old:new, :new] = products
            self._gram[:new, old:new] = products.T

    def truncate(self, n_atoms: int) -> None:
        """Forget the atoms from this place on."""
        self.n_atoms = n_atoms

    @torch.no_grad()
    def encode(
        self, x: Float[Tensor, "n d"], tolerance: float | None = None, barred: Bool[Tensor, "n p"] | None = None
    ) -> Pursuit:
        """Pursue each row for k steps, or until its error is at most `tolerance` (None: until nothing is left).

        Where `barred` is True the row may not take that one of the last p atoms.
        """
        # At unit norm, what counts as rounding error and as tolerance is the same number for every row.
        unit, norms = unit_rows_and_norms(x.contiguous())
        if tolerance is None:
            tolerance = (_SPANNED_EPS * torch.finfo(x.dtype).eps) ** 2
        values = x.new_zeros(len(x), self.k)
        indices = torch.zeros(len(x), self.k, dtype=torch.long, device=x.device)
        error = unit.any(dim=1).to(x.dtype)
        if self.n_atoms:
            if barred is None:
                barred = torch.empty(len(x), 0, dtype=torch.bool, device=x.device)
            is_compiled = self.is_compiled and not barred.shape[1]
            width = max(self.n_atoms, x.shape[1] * (self.k if self.orthogonal else 1))
            size = _chunk_rows(x.device.type, is_compiled, width)
            pursue = self._pursue_compiled if is_compiled else self._pursue
            for part in PursuedRows(unit, values, indices, error, barred).split(size):
                pursue(part, self._limits(tolerance))
        return Pursuit(values.mul_(norms), indices, error)

    def judge(self, n: int, threshold: float) -> Bool[Tensor, " n"]:
        """True for each of the last n atoms that the atoms before it explain too badly. Those of the last n that are
        explained well may not be taken. Needs compiled loops, which judge one atom after the other.
        """
        loops = self._loops
        assert loops is not None and self._gram is not None  # else a row's steps are not compiled
        places, limits = range(self.n_atoms - n, self.n_atoms), self._limits(threshold)
        return loops.judge(self._atoms, self._gram, places, self.k, limits, self.non_negative)

    def _limits(self, tolerance: float) -> Limits:
        eps = torch.finfo(self._atoms.dtype).eps
        return Limits(tolerance, margin=_DOUBT_EPS * eps, least=_SPANNED_EPS * eps)

    def _pursue_compiled(self, chunk: PursuedRows, limits: Limits) -> None:
        """Fill in values, indices and error of rows for which no atom is barred."""
        loops = self._loops
        assert loops is not None and self._gram is not None  # else a row's steps are not compiled
        left = loops.pursue(chunk, self._correlate, self.atoms, self._gram, limits, self.non_negative)
        if len(left):
            again = chunk.only(left)
            again.values.zero_()
            again.indices.zero_()
            self._pursue(again, limits)
            chunk.put(left, again)

    def _pursue(self, chunk: PursuedRows, limits: Limits) -> None:
        """Fill in values, indices and error of one chunk. Rows that are done leave the working set."""
        rows = (chunk.error > limits.tolerance).nonzero().squeeze(1)
        live = chunk.only(rows)
        if self.orthogonal:
            live = OrthogonallyPursuedRows.start(live)
        correlations = self._correlate(live.residual)
        for step in range(self.k):
            if not len(rows):
                return
            picks = self._pick(correlations, live, step, limits)
            moving = self._moving(correlations, picks, limits)
            if not moving.all():
                chunk.put(rows, live)
                rows, correlations, picks = (tensor[moving] for tensor in (rows, correlations, picks))
                live = live.only(moving)
            coefficients = live.take(step, picks, self._atoms.index_select(0, picks))
            going = live.error > limits.tolerance
            if not going.all():
                chunk.put(rows, live)
                rows, correlations, picks, coefficients = (
                    tensor[going] for tensor in (rows, correlations, picks, coefficients)
                )
                live = live.only(going)
            if step + 1 < self.k:
                correlations = self._update(correlations, live.residual, picks, coefficients)
        chunk.put(rows, live)

    def _pick(
        self, correlations: Float[Tensor, "b m"], live: PursuedRows, step: int, limits: Limits
    ) -> Int[Tensor, " b"]:
        """The atom with the largest |correlation|, or correlation; of equals the first."""
        if self.orthogonal:
            correlations.scatter_(1, live.indices[:, :step], 0)  # up to rounding they are 0
        scratch = self._buffer(len(correlations), whole_groups(self.n_atoms))
        picks, doubtful = self._strongest(correlations, live.barred, limits.margin, scratch)
        if self._gram is not None and doubtful.any():
            fresh = self._correlate(live.residual[doubtful])
            correlations[doubtful] = fresh
            picks[doubtful] = self._strongest(fresh, live.barred[doubtful], 0.0, scratch[: len(fresh)])[0]
        return picks

    def _strongest(self, correlations: Tensor, barred: Tensor, margin: float, scratch: Tensor) -> tuple[Tensor, Tensor]:
        strengths = scratch[:, : self.n_atoms]
        if self.non_negative:
            torch.clamp(correlations, min=0, out=strengths)
        else:
            torch.abs(correlations, out=strengths)
        return first_strongest(scratch, self.n_atoms, barred, margin)

    def _moving(
        self, correlations: Float[Tensor, "b m"], picks: Int[Tensor, " b"], limits: Limits
    ) -> Bool[Tensor, " b"]:
        """True for each row to which its pick adds something: all rows in plain matching pursuit, which never stops."""
        if not (self.orthogonal or self.non_negative):
            return torch.ones_like(picks, dtype=torch.bool)
        strengths = correlations.gather(1, picks[:, None]).squeeze(1)
        return (strengths if self.non_negative else strengths.abs()) > limits.least

    def _update(self, correlations: Tensor, residual: Tensor, picks: Tensor, coefficients: Tensor) -> Tensor:
        """The correlations after a step."""
        if self._gram is None:
            return self._correlate(residual)
        rows = self._buffer(len(picks), self.n_atoms)
        torch.index_select(self._gram[:, : self.n_atoms], 0, picks, out=rows)
        return correlations.addcmul_(rows, coefficients, value=-1)

    def _correlate(self, residual: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        # BLAS sums in another order for a few rows or an odd number of them; whole groups of 16 make
        # the codes of a row the same whatever rows are beside it.
        padded = torch.nn.functional.pad(residual, (0, 0, 0, -len(residual) % 16))
        return (padded @ self.atoms.T)[: len(residual)]

    def _buffer(self, n: int, width: int) -> Float[Tensor, "n width"]:
        """A buffer that every step overwrites: the page faults of a fresh one cost more than the step."""
        if len(self._scratch) < n * width:
            self._scratch = self._atoms.new_empty(n * width)
        return self._scratch[: n * width].view(n, width)

    def _reserve(self, capacity: int) -> None:
        atoms = self._atoms.new_empty(capacity, self._atoms.shape[1])
        atoms[: self.n_atoms] = self.atoms
        self._atoms = atoms
        if self._gram is None or capacity**2 * atoms.element_size() > MAX_GRAM_BYTES:
            self._gram = None
            return
        # Rows that begin at a multiple of 64 bytes are read fastest, and kernels are compiled once for all of them.
        gram = self._gram.new_empty(capacity, -(-capacity // 16) * 16)
        gram[: self.n_atoms, : self.n_atoms] = self._gram[: self.n_atoms, : self.n_atoms]
        self._gram = gram


def unit_rows(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows at unit norm; zero rows stay zero."""
    return unit_rows_and_norms(x)[0]


def unit_rows_and_norms(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n 1"]]:
    """Rows scaled to unit norm, zero rows staying zero, and the norms they had."""
    # Squares of very large or small numbers leave the range of float32: divide by the largest first.
    largest = x.abs().amax(dim=1, keepdim=True)
    scaled = x / torch.where(largest > 0, largest, 1)
    norms = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / torch.where(norms > 0, norms, 1), norms * largest


def _chunk_rows(device: str, is_compiled: bool, width: int) -> int:
    return max(64, _CHUNK_NUMBERS.get(device, (2**25, 2**25))[is_compiled] // width // 16 * 16)


class PursuitDecomposition(harness.Decomposition):
    """Codes by matching pursuit over fixed atoms: k coefficients per row, signed and with repeats unless a variant."""

    # Also what decompositions have that were saved before there were variants.
    orthogonal = False
    non_negative = False
    dictionary: Float[Tensor, "m d"]

    def __init__(
        self,
        dictionary: Float[Tensor, "m d"],
        k: int,
        mean: Float[Tensor, " d"] | None = None,
        *,
        orthogonal: bool = False,
        non_negative: bool = False,
    ) -> None:
        self.dictionary = dictionary
        self.k = k
        self.mean = mean
        """The mean that is subtracted before the pursuit and added back after it, in float64."""
        self.orthogonal = orthogonal
        self.non_negative = non_negative

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """True if codes may be negative."""
        return not self.non_negative

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        x = harness.working_precision(x)
        pursuit = self._pursuit_in(x.dtype).encode(centred(x, self.mean))
        return harness.Codes(pursuit.values, pursuit.indices, self.n_latents)

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return harness.decode_linear(codes, self.dictionary, self.mean)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        vars(self).pop("_pursuit", None)  # follows from the dictionary; the next encode makes it again
        return super().state()

    def to(self, device: str | torch.device) -> Self:
        vars(self).pop("_pursuit", None)
        return super().to(device)

    def _pursuit_in(self, dtype: torch.dtype) -> MatchingPursuit:
        pursuit: MatchingPursuit | None = vars(self).get("_pursuit")
        if pursuit is None or pursuit.atoms.dtype != dtype:
            self._pursuit = pursuit = MatchingPursuit(
                self.dictionary.to(dtype), self.k, orthogonal=self.orthogonal, non_negative=self.non_negative
            )
        return pursuit
