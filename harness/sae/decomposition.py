"""A trained SAE: folded weights that take raw rows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.contracts.linear import decode_linear, working_precision
from harness.sae.weights import SAEWeights


class SAEDecomposition(Decomposition):
    """x̂ = codes · dictionary + bias; takes raw rows. A kind adds its activation in `encode`."""

    signed = False
    dictionary: Float[Tensor, "m d"]

    def __init__(self, weights: SAEWeights, training: dict[str, float]) -> None:
        """Keep folded weights, and numbers about the training for the cost table."""
        self.encoder = weights.encoder
        self.encoder_bias = weights.encoder_bias
        self.dictionary = weights.decoder
        self.bias = weights.decoder_bias
        self.training = training

    def pre_activations(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """(x − bias)·encoderᵀ + encoder_bias."""
        y = self.centred(x)
        return torch.addmm(self.encoder_bias.to(y.dtype), y, self.encoder.T.to(y.dtype))

    def centred(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Rows as the encoder takes them: x − bias."""
        x = working_precision(x)
        # The bias holds the mean, in float64: its own rounding in float32 would shift every row by the same amount.
        return (x - self.bias).to(x.dtype)

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        return decode_linear(codes, self.dictionary, self.bias)

    def report(self) -> dict[str, float | None]:
        return dict(self.training)
