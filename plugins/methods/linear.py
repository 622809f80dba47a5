"""Helpers of decompositions with a linear decoder: centring, signs and the k largest codes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

import harness


def centred(x: Float[Tensor, "n d"], mean: Float[Tensor, " d"] | None) -> Float[Tensor, "n d"]:
    """Rows minus the mean, if there is one: subtracted in the mean's precision, returned in that of the rows."""
    return x if mean is None else (x - mean).to(x.dtype)


def k_largest(coefficients: Float[Tensor, "n m"], k: int | None) -> harness.Codes:
    """The k coefficients of largest magnitude in each row; None keeps all, as dense codes."""
    if k is None:
        return harness.Codes(coefficients)
    indices = coefficients.abs().topk(k, dim=1).indices
    return harness.Codes(coefficients.gather(1, indices), indices, coefficients.shape[1])


def fix_signs(directions: Float[Tensor, "m d"]) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m 1"]]:
    """Make the largest entry by magnitude of each direction positive, where its sign is arbitrary; also the signs."""
    signs = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()
    return directions * signs, signs
