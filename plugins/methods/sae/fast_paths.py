"""The sums and selections of SAEs by the fastest way there is for these tensors: the one place that chooses it.

Each function says in its first lines what it computes, by a plain form of torch. Loops compiled for a CPU and kernels
of a card give the same up to the order of sums, and of equal numbers they may choose others; so does a screening in
bfloat16, whose bound says what has to be computed in float32 as well. Each is imported, and compiled, only once there
are tensors that it takes.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.compile_time import compiling
from harness.plugins.methods.cuda.availability import runs_kernels

_LEAST_SCREENED_ROWS = 128
_GUESS = 0.8
_BITS_16 = torch.float32, torch.bfloat16


def form(*tensors: Tensor, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Literal["cpu", "cuda", "torch"]:
    """The loops or kernels that take these tensors; torch, where only the plain forms do."""
    if not all(x.dtype in dtypes and x.is_contiguous() and not x.requires_grad for x in tensors):
        return "torch"
    device = tensors[0].device
    return "cpu" if device.type == "cpu" else "cuda" if runs_kernels(device) else "torch"


def prepare(x: Tensor) -> None:
    """Import the loops for a CPU now if there are such tensors, so that compiling them counts in no fit's time."""
    if form(x) == "cpu":
        with compiling():
            from harness.plugins.methods.cpu import largest, products, screening  # noqa: F401


class Support(harness.Support):
    """The places of codes, with sums by kernels where tables are on a card."""

    @classmethod
    def like(cls, plain: harness.Support) -> Support:
        """A copy of plain ones."""
        return cls(plain.rows, plain.latents, plain.n_rows, plain.n_latents)

    def decode(self, values: Float[Tensor, " e"], table: Float[Tensor, "m d"]) -> Float[Tensor, "b d"]:
        if form(values, table) == "cuda":
            from harness.plugins.methods.cuda.sparse_sums import weighted_sums

            return weighted_sums(table, self.latents, values, self._row_limits)
        return super().decode(values, table)

    def sums_by_latent(self, values: Float[Tensor, " e"], rows: Float[Tensor, "b d"]) -> Float[Tensor, "m d"]:
        if form(values, rows) == "cuda":
            from harness.plugins.methods.cuda.sparse_sums import weighted_sums

            order, _ = self._by_latent
            return weighted_sums(rows, self._rows_by_latent, values[order], self._latent_limits)
        return super().sums_by_latent(values, rows)

    def totals_by_latent(self, values: Float[Tensor, " e"]) -> Float[Tensor, " m"]:
        if form(values) == "cuda":
            from harness.plugins.methods.cuda.sparse_sums import totals

            order, _ = self._by_latent
            return totals(values[order], self._latent_limits)
        return super().totals_by_latent(values)

    @functools.cached_property
    def _row_limits(self) -> Int[Tensor, " b+1"]:
        """The place where each row begins and, one further, ends."""
        return torch.searchsorted(self.rows, torch.arange(self.n_rows + 1, device=self.rows.device))

    @functools.cached_property
    def _rows_by_latent(self) -> Int[Tensor, " e"]:
        order, _ = self._by_latent
        return self.rows[order]

    @functools.cached_property
    def _latent_limits(self) -> Int[Tensor, " m+1"]:
        _, starts = self._by_latent
        return torch.nn.functional.pad(starts, (0, 1), value=len(self.rows))


def products(support: harness.Support, rows: Float[Tensor, "b d"], table: Float[Tensor, "m d"]) -> Float[Tensor, " e"]:
    """rows[row] · table[latent] at each place of the support."""
    match form(rows, table):
        case "cpu":
            from harness.plugins.methods.cpu.products import products as loop

            return loop(rows, table, support.rows, support.latents)
        case "cuda":
            from harness.plugins.methods.cuda.sparse_sums import products as kernel

            return kernel(rows, table, support.rows, support.latents)
        case "torch":
            return support.products(rows, table)


def descends_at_once(rows: Float[Tensor, "m d"], gradients: Float[Tensor, "m d"]) -> bool:
    """True if `descend_at_once` takes these rows; else the three steps are those of torch."""
    if form(rows, gradients) != "cuda":
        return False
    from harness.plugins.methods.cuda.unit_rows_descent import WIDEST

    return rows.shape[1] <= WIDEST


def descend_at_once(
    rows: Float[Tensor, "m d"],
    gradients: Float[Tensor, "m d"],
    means: Float[Tensor, "m d"],
    squares: Float[Tensor, "m d"],
    *,
    step: int,
    rate: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Take the radial part from the gradients, a step of Adam, and the rows back to unit norm."""
    from harness.plugins.methods.cuda.unit_rows_descent import descend

    descend(rows, gradients, means, squares, step, rate, betas, eps)


def largest_latents(pre: Float[Tensor, "b m"], k: int) -> Int[Tensor, "b k"]:
    """The k latents of each row that have the largest pre-activations."""
    match _form_of_selection(pre):
        case "cpu":
            from harness.plugins.methods.cpu import largest

            return largest.largest_places(pre, k)
        case "cuda":
            from harness.plugins.methods.cuda import sparse_largest

            return sparse_largest.largest_places(pre, k)
        case "torch":
            return pre.topk(k, dim=1, sorted=False).indices


def largest_latents_of_each(pre: Float[Tensor, "b m"], n_kept: Int[Tensor, " b"]) -> Int[Tensor, " e"]:
    """The latents with the largest pre-activations, as many as each row keeps, row after row."""
    match _form_of_selection(pre):
        case "cpu":
            from harness.plugins.methods.cpu import largest

            return largest.largest_places_of_each(pre, n_kept)
        case "cuda":
            from harness.plugins.methods.cuda import sparse_largest

            return sparse_largest.largest_places_of_each(pre, n_kept)
        case "torch":
            chosen = [row.topk(k, sorted=False).indices for row, k in zip(pre, n_kept.tolist(), strict=True)]
            return torch.cat(chosen)


def _form_of_selection(pre: Float[Tensor, "b m"]) -> Literal["cpu", "cuda", "torch"]:
    found = form(pre, dtypes=_BITS_16)
    if found == "cuda":
        from harness.plugins.methods.cuda.sparse_largest import MOST_NUMBERS

        return found if pre.shape[1] <= MOST_NUMBERS else "torch"
    return found


def largest_of_rows(
    y: Float[Tensor, "n d"], encoder: Float[Tensor, "m d"], encoder_bias: Float[Tensor, " m"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k largest pre-activations y·encoderᵀ + encoder_bias of each row, and their latents."""
    may_be = y.dtype == encoder.dtype and not y.requires_grad  # compiled loops have no gradient
    if len(y) >= _LEAST_SCREENED_ROWS and may_be and screens(encoder):
        return screen(y, encoder, encoder_bias).largest(k)
    return torch.addmm(encoder_bias.to(y.dtype), y, encoder.T.to(y.dtype)).topk(k, dim=1)


class Screen(Protocol):
    """Pre-activations in bfloat16, with bounds on their distance from those in float32."""

    def largest(self, k: int) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
        """The k largest in float32 of each row, and their latents."""

    def largest_of_all(self, n: int, guess: Float[Tensor, ""]) -> tuple[harness.Support, Float[Tensor, " e"]]:
        """The n largest in float32 of all rows together; all positive ones where there are fewer."""


def screens(encoder: Float[Tensor, "m d"]) -> bool:
    """True if pre-activations are computed in bfloat16 first, and only those that may be large in float32."""
    match form(encoder):
        case "cpu":
            from harness.plugins.methods.cpu.screening import pays

            return pays(encoder)
        case "cuda":
            from harness.plugins.methods.cuda.sparse_screening import pays as pays_on_card

            return pays_on_card(encoder)
        case "torch":
            return False


def screen(
    y: Float[Tensor, "b d"],
    encoder: Float[Tensor, "m d"],
    encoder_bias: Float[Tensor, " m"],
    out: Float[Tensor, "b m"] | None = None,
) -> Screen:
    """Compute the pre-activations in bfloat16."""
    if form(encoder) == "cuda":
        from harness.plugins.methods.cuda.sparse_screening import Screen as ScreenOnCard

        return ScreenOnCard.of(y, encoder, encoder_bias, out)
    from harness.plugins.methods.cpu.screening import Screen as ScreenOnCPU

    return ScreenOnCPU.of(y, encoder, encoder_bias, out)


class Chosen(NamedTuple):
    """The places of the codes of a batch and their pre-activations, in the precision of the rows."""

    support: Support
    values: Float[Tensor, " e"]
    pre: Float[Tensor, "b m"] | None
    """The pre-activations of all latents, if they were computed in the precision of the rows."""


class Selection:
    """Finds the largest pre-activations of one batch after the other.

    Args:
        encoder: of the size, type and device of those that will be given.
        n_rows: of the largest batch.
        in_bfloat16: choose among pre-activations in bfloat16; the values of those chosen are as precise as ever.
    """

    def __init__(self, encoder: Float[Tensor, "m d"], n_rows: int, *, in_bfloat16: bool) -> None:
        prepare(encoder)
        self._screens = not in_bfloat16 and screens(encoder)
        dtype = torch.bfloat16 if in_bfloat16 or self._screens else encoder.dtype
        # A fresh buffer each step would cost as much in page faults as the top-k that reads it.
        self._room = torch.empty(n_rows, len(encoder), dtype=dtype, device=encoder.device)
        self._smallest = encoder.new_zeros(())

    def of_each_row(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights, k: int) -> Chosen:
        """The k largest of each row."""
        if self._screens:
            values, latents = self._screen(y, weights).largest(k)
            return Chosen(Support.of_each_row(latents, len(weights.encoder)), values.flatten(), None)
        pre = self._pre_activations(y, weights)
        support = Support.of_each_row(largest_latents(pre, k), len(weights.encoder))
        return self._chosen(support, pre, y, weights)

    def of_all(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights, n: int) -> Chosen:
        """The n largest positive ones of all rows together; all positive ones where there are fewer."""
        guess = _GUESS * self._smallest  # sorting is faster among those above it; any guess gives the same
        if self._screens:
            plain, values = self._screen(y, weights).largest_of_all(n, guess)
            chosen, selected = Chosen(Support.like(plain), values, None), values
        else:
            pre = self._pre_activations(y, weights)
            support = Support.at(largest_positive(pre.flatten(), n, guess), *pre.shape)
            chosen, selected = self._chosen(support, pre, y, weights), support.of(pre)
        if len(selected):
            self._smallest = selected.min()
        return chosen

    def _screen(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights) -> Screen:
        return screen(y, weights.encoder, weights.encoder_bias, self._room[: len(y)])

    def _pre_activations(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights) -> Float[Tensor, "b m"]:
        room = self._room[: len(y)]
        encoder, bias = weights.encoder.to(room.dtype), weights.encoder_bias.to(room.dtype)
        return torch.addmm(bias, y.to(room.dtype), encoder.T, out=room)

    def _chosen(
        self, support: Support, pre: Float[Tensor, "b m"], y: Float[Tensor, "b d"], weights: harness.SAEWeights
    ) -> Chosen:
        if pre.dtype == y.dtype:
            return Chosen(support, support.of(pre), pre)
        values = products(support, y, weights.encoder) + weights.encoder_bias[support.latents]
        return Chosen(support, values, None)


class PreActivations:
    """The pre-activations of one batch, of which only those on one side of a limit, or near it, are wanted."""

    def __init__(self, y: Float[Tensor, "b d"], weights: harness.SAEWeights) -> None:
        self.dense: Float[Tensor, "b m"] | None = None
        """All of them, if they were computed in the precision of the rows."""
        if form(y, weights.encoder) == "cuda" and screens(weights.encoder):
            from harness.plugins.methods.cuda.sparse_screening import Screen as ScreenOnCard

            self._screen = ScreenOnCard.of(y, weights.encoder, weights.encoder_bias)
        else:
            self.dense = weights.pre_activations(y)

    def above(self, limits: Float[Tensor, " m"]) -> Chosen:
        """Find those above the limit of their latent."""
        if self.dense is None:
            plain, values = self._screen.between(limits)
            return Chosen(Support.like(plain), values, None)
        support = Support.where(self.dense > limits)
        return Chosen(support, support.of(self.dense), self.dense)

    def near(self, limits: Float[Tensor, " m"], distance: float) -> Support:
        """Places of those that are less than the distance off the limit of their latent."""
        if self.dense is None:
            plain, _ = self._screen.between(limits - distance, limits + distance)
            return Support.like(plain)
        return Support.where((self.dense - limits).abs() < distance)


def largest_positive(flat: Float[Tensor, " e"], n: int, guess: Float[Tensor, ""]) -> Int[Tensor, " n"]:
    """Places of the n largest values in order of place; of all positive ones where there are fewer.

    Sorting everything is avoided by looking first at what is above `guess` (from 0 on); any guess gives the same.
    """
    found = (flat > guess).nonzero().squeeze(1)
    if len(found) < n:
        found = (flat > 0).nonzero().squeeze(1)
    if len(found) <= n:
        return found
    chosen = torch.zeros_like(found, dtype=torch.bool)
    chosen[flat[found].topk(n, sorted=False).indices] = True
    return found[chosen]
