"""A step of Adam for rows that keep unit norm, in one pass: the radial part of the gradient is dropped, the moments and
the row move, and the row is scaled back.

Dense Adam moves every weight by its moments at every step, whether it has a gradient now or not; so does this, for all
rows. What is saved are passes through memory: 7 numbers are read or written for each weight, where torch's three steps
take 17. In exact arithmetic the result is theirs, with torch.optim.Adam between the two others; sums and products round
in float32 here too, and after five steps weights are within 1e-6 of those of float64.
"""

from __future__ import annotations

from math import sqrt

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from harness.plugins.methods.cuda.compilation import kernel, launch
from harness.plugins.methods.cuda.sparse_pieces import warps

WIDEST = 2**14
"""Longest row that the registers of one program hold, with its gradient and moments."""


@kernel("rate", "root")
def _step(
    units: tl.tensor,
    gradients: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    d: tl.tensor,
    rate: tl.tensor,
    root: tl.tensor,
    BETA_1: tl.constexpr,
    BETA_2: tl.constexpr,
    EPS: tl.constexpr,
    D: tl.constexpr,
) -> None:
    column = tl.arange(0, D)
    inside = column < d
    at = tl.program_id(0).to(tl.int64) * d + column
    row = tl.load(units + at, mask=inside, other=0.0)
    gradient = tl.load(gradients + at, mask=inside, other=0.0)
    gradient -= tl.sum(gradient * row, 0) * row
    mean = BETA_1 * tl.load(means + at, mask=inside, other=0.0) + (1 - BETA_1) * gradient
    square = BETA_2 * tl.load(squares + at, mask=inside, other=0.0) + (1 - BETA_2) * gradient * gradient
    row -= rate * mean / (tl.sqrt(square) / root + EPS)
    tl.store(means + at, mean, mask=inside)
    tl.store(squares + at, square, mask=inside)
    tl.store(units + at, row / tl.sqrt(tl.sum(row * row, 0)), mask=inside)


def descend(
    rows: Float[Tensor, "m d"],
    gradients: Float[Tensor, "m d"],
    means: Float[Tensor, "m d"],
    squares: Float[Tensor, "m d"],
    step: int,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Take the step with this number, counted from 1, which changes the rows and their moments in place."""
    width = triton.next_power_of_2(rows.shape[1])
    constants = {"BETA_1": betas[0], "BETA_2": betas[1], "EPS": eps, "D": width, "num_warps": warps(2 * width)}
    numbers = learning_rate / (1 - betas[0] ** step), sqrt(1 - betas[1] ** step)
    launch(_step, (len(rows),), rows, gradients, means, squares, rows.shape[1], *numbers, **constants)
