"""What decompositions with a linear decoder share: precision, signs, the k largest codes, and x̂ = codes · D + mean."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness


def working_precision(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows in float64 if they came so, in float32 otherwise."""
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32).contiguous()


def centred(x: Float[Tensor, "n d"], mean: Float[Tensor, " d"] | None) -> Float[Tensor, "n d"]:
    """Rows less the mean, if there is one; subtracted in its precision, which may be wider, and given in their own."""
    return x if mean is None else (x - mean).to(x.dtype)


def decode_linear(
    codes: harness.Codes, dictionary: Float[Tensor, "m d"], mean: Float[Tensor, " d"] | None = None
) -> Float[Tensor, "n d"]:
    """x̂ = Σ code · latent (+ mean), in the precision of the codes. The mean is added in its own, which may be wider."""
    values, dictionary = codes.values, dictionary.to(codes.values.dtype)
    if codes.indices is None:
        decoded = values @ dictionary
    else:
        # Reads only the k latents of each row; nothing of size [n, m] or [n, k, d] is made.
        decoded = torch.nn.functional.embedding_bag(codes.indices, dictionary, mode="sum", per_sample_weights=values)
    return decoded if mean is None else (decoded + mean).to(values.dtype)


def k_largest(coefficients: Float[Tensor, "n m"], k: int | None) -> harness.Codes:
    """The k coefficients of largest magnitude in each row; None keeps all, as dense codes."""
    if k is None:
        return harness.Codes(coefficients)
    indices = coefficients.abs().topk(k, dim=1).indices
    return harness.Codes(coefficients.gather(1, indices), indices, coefficients.shape[1])


def fix_signs(directions: Float[Tensor, "m d"]) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m 1"]]:
    """Where a direction's sign is arbitrary, its largest entry by magnitude is made positive; also gives the signs."""
    signs = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True)).sign()
    return directions * signs, signs
