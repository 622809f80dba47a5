"""The weights of an SAE in training, the units they live in, and what is saved of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

import harness
from harness.plugins.methods.linear import decode_linear, working_precision
from harness.plugins.methods.sae import saelens
from harness.plugins.methods.sae.sparse import Support


@dataclass
class Units:
    """Rows are trained on as y = (x − μ)/s, with μ the mean of all rows and s the mean of ‖x−μ‖ over the first batch.

    So learning rates and sparsity weights mean the same for every model, and neither scaling nor shifting the rows
    changes the result. Norms rather than their squares: one sink row in the batch moves their mean little.
    """

    mean: Float[Tensor, " d"]
    """In float64: a residual stream's mean can be far larger than what varies around it."""
    scale: Float[Tensor, ""] | None = None
    """None before the first batch."""

    def measure(self, x: Float[Tensor, "b d"]) -> None:
        """Take the scale of the first batch."""
        scale = torch.linalg.vector_norm(x - self.mean, dim=1).mean()
        self.scale = torch.where(scale > 0, scale, 1.0)  # rows that do not vary need no scale

    def enter(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return ((x - self.mean) / self.scale).to(x.dtype)


@dataclass
class Weights:
    """y ≈ f(y·encoderᵀ + encoder_bias)·decoder + decoder_bias, with f the kind's own activation."""

    encoder: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    decoder: Float[Tensor, "m d"]
    decoder_bias: Float[Tensor, " d"]

    @classmethod
    def initial(cls, n_latents: int, info: harness.Info) -> Self:
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
        """From the gradients by the pre-activations of sparse codes, 0 elsewhere, and by ŷ."""
        self.encoder.grad = support.sums_by_latent(pre_grad, y)
        self.encoder_bias.grad = support.totals_by_latent(pre_grad)
        self.decoder.grad = support.sums_by_latent(codes, output_grad)
        self.decoder_bias.grad = self.sum_of_rows(output_grad)

    def sum_of_rows(self, output_grad: Float[Tensor, "b d"]) -> Float[Tensor, " d"]:
        """The gradient by the decoder bias."""
        return output_grad.sum(dim=0)

    def drop_radial_gradient(self) -> None:
        """Take from each decoder row's gradient what would only change its norm, which `normalise` undoes anyway."""
        radial = (self.decoder.grad * self.decoder).sum(dim=1, keepdim=True)
        self.decoder.grad.addcmul_(self.decoder, radial, value=-1)

    def normalise(self) -> None:
        """Decoder rows of unit norm."""
        self.decoder /= torch.linalg.vector_norm(self.decoder, dim=1, keepdim=True)

    def folded(self, units: Units) -> Weights:
        """Equal weights for raw rows around their decoder bias, with unit decoder rows: codes in the rows' own units.

        With r = ‖decoder row‖ and b the folded decoder bias μ + s·decoder_bias, the new codes are r·s times the old:

            r·(encoder·(x − b) + s·(encoder_bias + encoder·decoder_bias)) = r·s·(encoder·y + encoder_bias).
        """
        encoder, encoder_bias, decoder, decoder_bias = (weight.double() for weight in self)
        norms = torch.linalg.vector_norm(decoder, dim=1)
        return Weights(
            (encoder * norms[:, None]).to(self.encoder.dtype),
            ((encoder_bias + encoder @ decoder_bias) * norms * units.scale).to(self.encoder.dtype),
            (decoder / norms[:, None]).to(self.encoder.dtype),
            units.mean + units.scale * decoder_bias,
        )


class SAEDecomposition(harness.Decomposition):
    """x̂ = codes · dictionary + bias; takes raw rows. A kind adds its activation in `encode`."""

    signed = False

    def __init__(self, weights: Weights, training: dict[str, float]) -> None:
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
        """What the encoder takes: x − bias."""
        x = working_precision(x)
        # The bias holds the mean, in float64: its own rounding in float32 would shift every row by the same amount.
        return (x - self.bias).to(x.dtype)

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        return decode_linear(codes, self.dictionary, self.bias)

    def report(self) -> dict[str, float | None]:
        return dict(self.training)

    def in_saelens(self, encoder_bias: Float[Tensor, " m"]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What SAELens's config and weights have for this kind beside the encoder, the dictionary and the bias.

        The pre-activations are (x − bias)·encoderᵀ + `encoder_bias`, with the bias in the precision of the encoder.
        """
        raise NotImplementedError

    def export_saelens(self, folder: str | Path, **metadata: Any) -> None:
        """Write what `SAE.load_from_disk(folder)` of SAELens loads: an SAE with the same codes and reconstructions.

        Args:
            folder: made if it is not there.
            metadata: what SAELens keeps about the place of an SAE, such as `model_name` and `hook_name`.
        """
        folder, dtype = Path(folder), self.encoder.dtype
        bias = self.bias.to(dtype)
        # The bias is in float64. Encoding must not lose what it has beyond `dtype`: the encoder's bias takes it.
        beyond = self.encoder.double() @ (self.bias - bias.double())
        config, tensors = self.in_saelens(self.encoder_bias.double() - beyond)
        tensors |= {"W_enc": self.encoder.T, "W_dec": self.dictionary, "b_dec": bias}
        config |= {
            "d_in": self.encoder.shape[1],
            "d_sae": self.encoder.shape[0],
            "dtype": str(dtype).removeprefix("torch."),
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {"sae_lens_version": saelens.FORMAT_VERSION, **metadata},
        }
        folder.mkdir(parents=True, exist_ok=True)
        stored = {name: tensor.detach().to("cpu", dtype, copy=True).contiguous() for name, tensor in tensors.items()}
        save_file(stored, folder / saelens.WEIGHTS_FILE)
        (folder / saelens.CONFIG_FILE).write_text(json.dumps(config, indent=1), encoding="utf-8")
