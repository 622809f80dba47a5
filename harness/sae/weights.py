"""The weights of an SAE in training, and the units they live in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.method import Info
from harness.sae.support import Support


class SAEUnits:
    """Rows are trained on as y = (x − μ)/s, with μ the mean of all rows and s the mean of ‖x−μ‖ over the first batch.

    So learning rates and sparsity weights mean the same for every model, and neither scaling nor shifting the rows
    changes the result. Norms rather than their squares: one sink row in the batch moves their mean little.

    Args:
        mean: in float64, since a residual stream's mean can be far larger than what varies around it.
        scale: None until the first batch is measured.
    """

    def __init__(self, mean: Float[Tensor, " d"], scale: Float[Tensor, ""] | None = None) -> None:
        self.mean = mean
        self._scale = scale

    @property
    def is_measured(self) -> bool:
        """True once the scale is known."""
        return self._scale is not None

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The norm s that rows are divided by."""
        assert self._scale is not None, "measure a batch first"
        return self._scale

    def measure(self, x: Float[Tensor, "b d"]) -> None:
        """Take the scale of the first batch."""
        scale = torch.linalg.vector_norm(x - self.mean, dim=1).mean()
        self._scale = torch.where(scale > 0, scale, 1.0)  # rows that do not vary need no scale

    def enter(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Convert rows to these units."""
        return ((x - self.mean) / self.scale).to(x.dtype)


@dataclass
class SAEWeights:
    """y ≈ f(y·encoderᵀ + encoder_bias)·decoder + decoder_bias, with f the kind's own activation."""

    encoder: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    decoder: Float[Tensor, "m d"]
    decoder_bias: Float[Tensor, " d"]

    @classmethod
    def initial(cls, n_latents: int, info: Info) -> Self:
        """Random unit directions as decoder, the encoder its transpose (Gao et al. 2024), no biases."""
        drawn = torch.randn(n_latents, info.width, generator=info.generator("decoder"), dtype=torch.float64)
        directions = torch.nn.functional.normalize(drawn).to(info.device, info.dtype)
        return cls(directions, directions.new_zeros(n_latents), directions.clone(), directions.new_zeros(info.width))

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.encoder, self.encoder_bias, self.decoder, self.decoder_bias))

    def pre_activations(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        return torch.addmm(self.encoder_bias, y, self.encoder.T)

    def decode(self, support: Support, codes: Float[Tensor, " e"]) -> Float[Tensor, "b d"]:
        """ŷ of sparse codes."""
        return support.decode(codes, self.decoder) + self.decoder_bias

    def set_gradients(
        self,
        support: Support,
        codes: Float[Tensor, " e"],
        pre_grad: Float[Tensor, " e"],
        y: Float[Tensor, "b d"],
        output_grad: Float[Tensor, "b d"],
    ) -> None:
        """Set all gradients from those by the pre-activations of sparse codes, 0 elsewhere, and by ŷ."""
        self.encoder.grad = support.sums_by_latent(pre_grad, y)
        self.encoder_bias.grad = support.totals_by_latent(pre_grad)
        self.decoder.grad = support.sums_by_latent(codes, output_grad)
        self.decoder_bias.grad = self.sum_of_rows(output_grad)

    def sum_of_rows(self, output_grad: Float[Tensor, "b d"]) -> Float[Tensor, " d"]:
        """The gradient by the decoder bias."""
        return output_grad.sum(dim=0)

    def drop_radial_gradient(self) -> None:
        """Take from each decoder row's gradient what would only change its norm, which `normalise` undoes anyway."""
        gradient = gradient_of(self.decoder)
        radial = (gradient * self.decoder).sum(dim=1, keepdim=True)
        gradient.addcmul_(self.decoder, radial, value=-1)

    def normalise(self) -> None:
        """Scale the decoder rows to unit norm."""
        self.decoder /= torch.linalg.vector_norm(self.decoder, dim=1, keepdim=True)

    def folded(self, units: SAEUnits) -> SAEWeights:
        """Equal weights for raw rows around their decoder bias, with unit decoder rows: codes in the rows' own units.

        With r = ‖decoder row‖ and b the folded decoder bias μ + s·decoder_bias, the new codes are r·s times the old:

            r·(encoder·(x − b) + s·(encoder_bias + encoder·decoder_bias)) = r·s·(encoder·y + encoder_bias).
        """
        encoder, encoder_bias, decoder, decoder_bias = (weight.double() for weight in self)
        norms = torch.linalg.vector_norm(decoder, dim=1)
        return SAEWeights(
            (encoder * norms[:, None]).to(self.encoder.dtype),
            ((encoder_bias + encoder @ decoder_bias) * norms * units.scale).to(self.encoder.dtype),
            (decoder / norms[:, None]).to(self.encoder.dtype),
            units.mean + units.scale * decoder_bias,
        )


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient that a forward pass has left in a parameter."""
    assert parameter.grad is not None, "forward() sets the gradients of all parameters"
    return parameter.grad
