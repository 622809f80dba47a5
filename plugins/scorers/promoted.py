"""T: the 20 tokens that a latent's direction promotes most by the logit lens, which some scorers compare with what the
latent does. The lens takes the direction at unit norm, the sign of the pole included.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import harness

N_TOKENS = 20
N_RANDOM = 100


def direction_of(latent: harness.Latent) -> Float[Tensor, " d"]:
    """The latent's direction in the residual stream; raises Undefined if it has none."""
    if latent.direction is None or not latent.direction.any():
        raise harness.Undefined("the latent has no direction in the residual stream")
    return latent.direction


def own_and_other(latent: harness.Latent) -> harness.Unembed:
    """The request for T of the latent and, if it has a direction, of the other latent."""
    directions = [direction_of(latent)]
    if latent.other is not None and latent.other.direction is not None and latent.other.direction.any():
        directions.append(latent.other.direction)
    return harness.Unembed(torch.stack(directions), N_TOKENS)


def control_row(metric: str, value: float | None, n: int) -> harness.TableRow:
    """The table row of the metric by the other latent's T; without a value if that is None."""
    reason = None if value is not None else "there is no other latent with a direction"
    return harness.TableRow(f"{metric}_random_explanation", value, n, None, reason)


def random_directions(width: int) -> Float[Tensor, "r d"]:
    """Directions drawn evenly from the unit sphere, the same for every latent."""
    return _drawn(width).clone()


@functools.cache
def _drawn(width: int) -> Float[Tensor, "r d"]:
    drawn = torch.from_numpy(np.random.default_rng(width).standard_normal((N_RANDOM, width)))
    return torch.nn.functional.normalize(drawn, dim=1).float()
