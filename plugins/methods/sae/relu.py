"""ReLU SAE: a penalty on the sum of the codes makes them sparse (Bricken et al. 2023; Conerly et al. 2024)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods.sae import ReLUSAEConfig, fast_paths
from harness.plugins.methods.sae.export import ExportableSAE
from harness.plugins.methods.sae.steering import PenaltySAE


class ReLUSAE(PenaltySAE):
    """Loss: mean ‖y − ŷ‖² + λ·Σ_j f_j·‖decoder row j‖, plus AuxK for dead latents.

    Rows y have mean norm 1, so λ is in units of the rows' typical norm. Weighting each code by the norm of its
    decoder row leaves nothing to gain from small codes on long rows; the norms are folded into the codes when saved.
    On 10k rows of SmolLM2 (1,024 latents, 10 passes) the explained variance is .68 from biases that give the first
    batch the target L0, and .61 where half of the latents fire at first.
    """

    name = "relu_sae"
    unit_decoder = False
    first_weight = 0.05
    config: ReLUSAEConfig

    def start_above(self, threshold: Float[Tensor, ""]) -> None:
        self.weights.encoder_bias -= threshold

    def n_active(self, y: Float[Tensor, "h d"]) -> Float[Tensor, ""]:
        return (self.weights.pre_activations(y) > 0).sum()

    def encode(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        return self.weights.pre_activations(y).relu()

    def loss(self, y: Float[Tensor, "b d"], codes: Float[Tensor, "b m"], error: Float[Tensor, "b d"]) -> Tensor:
        penalty: Tensor = (codes @ torch.linalg.vector_norm(self.weights.decoder, dim=1)).mean()
        return super().loss(y, codes, error) + self.penalty.value.to(y.dtype) * penalty

    def forward(self, y: Float[Tensor, "b d"]) -> harness.SAEForward:
        weights = self.weights
        active, codes, pre = fast_paths.PreActivations(y, weights).above(torch.zeros_like(weights.encoder_bias))
        error = active.decode(codes, weights.decoder) + weights.decoder_bias - y
        output_grad = error * (2 / self.batch_rows)
        penalty = self.penalty.value.to(y.dtype) / self.batch_rows
        norms = torch.linalg.vector_norm(weights.decoder, dim=1)
        pre_grad = fast_paths.products(active, output_grad, weights.decoder) + penalty * norms[active.latents]
        weights.set_gradients(active, codes, pre_grad, y, output_grad)
        totals = active.totals_by_latent(codes)
        assert weights.decoder.grad is not None  # it has just been set
        weights.decoder.grad += weights.decoder * (penalty * totals / norms)[:, None]
        loss = error.square().sum() / self.batch_rows + penalty * (totals * norms).sum()
        return harness.SAEForward(error, totals > 0, loss, pre)

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> harness.SAEDecomposition:
        return ReLUDecomposition(weights, training | {"l1": self.penalty.value.item()})


class ReLUDecomposition(ExportableSAE):
    """A ReLU SAE as learnt: its m codes are the pre-activations, or 0 where they are negative."""

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(self.pre_activations(x).relu())

    def in_saelens(self, encoder_bias: Float[Tensor, " m"]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"architecture": "standard"}, {"b_enc": encoder_bias}
