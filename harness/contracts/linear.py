"""Shared arithmetic of decompositions with a linear decoder: their precision, and x̂ = codes · D + mean."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Codes


def working_precision(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows in float64 if they came so, in float32 otherwise."""
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32).contiguous()


def decode_linear(
    codes: Codes, dictionary: Float[Tensor, "m d"], mean: Float[Tensor, " d"] | None = None
) -> Float[Tensor, "n d"]:
    """x̂ = Σ code · latent (+ mean), in the precision of the codes. The mean is added in its own, which may be wider."""
    values, dictionary = codes.values, dictionary.to(codes.values.dtype)
    if codes.indices is None:
        decoded = values @ dictionary
    else:
        # Reads only the k latents of each row; nothing of size [n, m] or [n, k, d] is made.
        decoded = torch.nn.functional.embedding_bag(codes.indices, dictionary, mode="sum", per_sample_weights=values)
    return decoded if mean is None else (decoded + mean).to(values.dtype)
