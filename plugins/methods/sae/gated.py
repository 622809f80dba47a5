"""Gated SAE (Rajamanoharan et al. 2024, arXiv 2404.16014): which latents fire and how strongly is learnt apart."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods.sae import GatedSAEConfig, fast_paths
from harness.plugins.methods.sae.export import ExportableSAE
from harness.plugins.methods.sae.steering import PenaltySAE


class GatedSAE(PenaltySAE):
    """Gated SAE: codes are f = relu(μ) where the gate π = y·encoderᵀ + encoder_bias is above 0, and 0 elsewhere, with
    magnitudes μ = e^r ∘ (y·encoderᵀ) + c.

    Loss, as in equation 8 of the paper: mean ‖y − ŷ(f)‖² + λ·Σ relu(π) + ‖y − ŷ_frozen(relu(π))‖², where the last term
    takes the decoder as given. It is what the gate learns from, since the step passes no gradient. Plus AuxK.
    """

    name = "gated_sae"
    first_weight = 0.05
    config: GatedSAEConfig

    def start(self, info: harness.Info) -> None:
        self.log_gain = torch.zeros(self.config.n_latents, dtype=info.dtype, device=info.device)
        self.magnitude_bias = torch.zeros_like(self.log_gain)
        super().start(info)

    def own_parameters(self) -> list[Tensor]:
        return [self.log_gain, self.magnitude_bias]

    def start_above(self, threshold: Float[Tensor, ""]) -> None:
        self.weights.encoder_bias -= threshold

    def n_active(self, y: Float[Tensor, "h d"]) -> Float[Tensor, ""]:
        gate = self.weights.pre_activations(y)
        magnitudes = self.log_gain.exp() * (gate - self.weights.encoder_bias) + self.magnitude_bias
        return ((gate > 0) & (magnitudes > 0)).sum()

    def encode(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        magnitudes = self.log_gain.exp() * (y @ self.weights.encoder.T) + self.magnitude_bias
        return (self.weights.pre_activations(y) > 0) * magnitudes.relu()

    def loss(self, y: Float[Tensor, "b d"], codes: Float[Tensor, "b m"], error: Float[Tensor, "b d"]) -> Tensor:
        gates = self.weights.pre_activations(y).relu()
        gate_error = gates @ self.weights.decoder.detach() + self.weights.decoder_bias.detach() - y
        penalty = self.penalty.value.to(y.dtype) * gates.sum(dim=1).mean()
        return super().loss(y, codes, error) + super().loss(y, gates, gate_error) + penalty

    def forward(self, y: Float[Tensor, "b d"]) -> harness.SAEForward:
        weights = self.weights
        is_open, gates, pre = fast_paths.PreActivations(y, weights).above(torch.zeros_like(weights.encoder_bias))
        gain, linear = self.log_gain.exp()[is_open.latents], gates - weights.encoder_bias[is_open.latents]
        codes = (gain * linear + self.magnitude_bias[is_open.latents]).relu()
        error, gate_error = (is_open.decode(f, weights.decoder) + weights.decoder_bias - y for f in (codes, gates))
        output_grad, gate_output_grad = (e * (2 / self.batch_rows) for e in (error, gate_error))
        penalty = self.penalty.value.to(y.dtype) / self.batch_rows
        gate_grad = fast_paths.products(is_open, gate_output_grad, weights.decoder) + penalty
        magnitude_grad = fast_paths.products(is_open, output_grad, weights.decoder) * (codes > 0)
        weights.set_gradients(is_open, codes, gate_grad + gain * magnitude_grad, y, output_grad)
        weights.encoder_bias.grad = is_open.totals_by_latent(gate_grad)  # magnitudes do not depend on it
        self.log_gain.grad = is_open.totals_by_latent(magnitude_grad * gain * linear)
        self.magnitude_bias.grad = is_open.totals_by_latent(magnitude_grad)
        squares = error.square().sum() + gate_error.square().sum()
        loss = squares / self.batch_rows + penalty * gates.sum()
        return harness.SAEForward(error, is_open.totals_by_latent(codes) > 0, loss, pre)

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> harness.SAEDecomposition:
        # Decoder rows have unit norm, so folding scales π alone: μ = e^r ∘ (π − encoder_bias) + c goes with it.
        gain = self.log_gain.double().exp()
        offset = self.units.scale * (self.magnitude_bias.double() - gain * self.weights.encoder_bias.double())
        dtype = weights.encoder.dtype
        own = {"l1": self.penalty.value.item()}
        return GatedDecomposition(weights, training | own, gain.to(dtype), offset.to(dtype))


class GatedDecomposition(ExportableSAE):
    """A Gated SAE as learnt: codes are the positive magnitudes of the latents whose gate is open."""

    def __init__(self, weights: harness.SAEWeights, training: dict[str, float], gain: Tensor, offset: Tensor) -> None:
        super().__init__(weights, training)
        self.gain = gain
        self.offset = offset

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        gate = self.pre_activations(x)
        return harness.Codes((self.gain * gate + self.offset).relu() * (gate > 0))

    def in_saelens(self, encoder_bias: Float[Tensor, " m"]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        # Magnitudes there have a bias of their own; here they are made of the gate, with its bias in it.
        gain = self.gain.double()
        magnitude_bias = self.offset + gain * encoder_bias
        return {"architecture": "gated"}, {"b_gate": encoder_bias, "b_mag": magnitude_bias, "r_mag": gain.log()}
