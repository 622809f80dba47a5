"""JumpReLU SAE (Rajamanoharan et al. 2024, arXiv 2407.14435): a threshold per latent, learnt under an L0 penalty."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.sae import JumpReLUSAEConfig, fast_paths
from harness.plugins.methods.sae.export import ExportableSAE
from harness.plugins.methods.sae.steering import PenaltySAE


class JumpReLUSAE(PenaltySAE):
    """Loss: mean ‖y − ŷ‖² + λ·L0, with codes f = pre where pre > θ, plus AuxK for dead latents, and α·θ of theirs:
    what they learn to reconstruct is small, and they would not reach their threshold.

    θ ≥ 0 learns through straight-through estimators: within a bandwidth ε of the threshold,

        ∂f/∂θ = −θ/ε,    ∂L0/∂θ = −1/ε      where |pre − θ| < ε/2, and 0 elsewhere.

    θ is learnt as it is: a step of Adam moves its logarithm, as the paper has it, too little where it is small.
    """

    name = "jumprelu_sae"
    first_weight = 0.001
    config: JumpReLUSAEConfig

    def start(self, info: harness.Info) -> None:
        self.threshold = torch.zeros(self.config.n_latents, dtype=info.dtype, device=info.device)
        super().start(info)

    def own_parameters(self) -> list[Tensor]:
        return [self.threshold]

    def start_above(self, threshold: Float[Tensor, ""]) -> None:
        self.threshold.fill_(threshold)

    def n_active(self, y: Float[Tensor, "h d"]) -> Float[Tensor, ""]:
        return (self.weights.pre_activations(y) > self.threshold).sum()

    def encode(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        pre = self.weights.pre_activations(y)
        return pre * (pre > self.threshold) - self.threshold.detach() * self._moved(pre)

    def loss(self, y: Float[Tensor, "b d"], codes: Float[Tensor, "b m"], error: Float[Tensor, "b d"]) -> Tensor:
        pre = self.weights.pre_activations(y)
        l0 = ((pre > self.threshold).to(y.dtype) - self._moved(pre)).sum(dim=1).mean()
        return super().loss(y, codes, error) + self.penalty.value.to(y.dtype) * l0

    def _moved(self, pre: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """The value 0 with derivative 1/ε by a threshold that is near: the part of a step that the estimators see."""
        near = (pre - self.threshold).abs() < self.config.bandwidth / 2
        return near * (self.threshold - self.threshold.detach()) / self.config.bandwidth

    def forward(self, y: Float[Tensor, "b d"]) -> harness.SAEForward:
        threshold, decoder = self.threshold, self.weights.decoder
        pre = fast_paths.PreActivations(y, self.weights)
        active, codes, _ = pre.above(threshold)
        error = active.decode(codes, decoder) + self.weights.decoder_bias - y
        output_grad = error * (2 / self.batch_rows)
        self.weights.set_gradients(active, codes, fast_paths.products(active, output_grad, decoder), y, output_grad)
        penalty = self.penalty.value.to(y.dtype) / self.batch_rows
        near = pre.near(threshold, self.config.bandwidth / 2)
        by_threshold = threshold[near.latents] * fast_paths.products(near, output_grad, decoder) + penalty
        self.threshold.grad = -near.totals_by_latent(by_threshold) / self.config.bandwidth
        loss = error.square().sum() / self.batch_rows + penalty * len(codes)
        return harness.SAEForward(error, active.totals_by_latent(codes) > 0, loss, pre.dense)

    def revive(self, dead: Int[Tensor, " dead"], y: Float[Tensor, "b d"], forward: harness.SAEForward) -> None:
        super().revive(dead, y, forward)
        assert self.threshold.grad is not None  # `forward` has set it
        self.threshold.grad[dead] += self.auxk_weight

    def descend(self) -> None:
        super().descend()
        self.threshold.clamp_(min=0)

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> harness.SAEDecomposition:
        threshold = self.threshold.double() * self.units.scale  # decoder rows have unit norm
        own = {"l0_penalty": self.penalty.value.item()}
        return JumpReLUDecomposition(weights, training | own, threshold.to(weights.encoder.dtype))


class JumpReLUDecomposition(ExportableSAE):
    """A JumpReLU SAE as learnt: codes are pre-activations above the threshold, one for each latent or for all."""

    def __init__(self, weights: harness.SAEWeights, training: dict[str, float], threshold: Tensor) -> None:
        super().__init__(weights, training)
        self.threshold = threshold

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        pre = self.pre_activations(x)
        return harness.Codes(pre * (pre > self.threshold))

    def in_saelens(self, encoder_bias: Float[Tensor, " m"]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        # One threshold for all, as BatchTopK SAEs have it, is the same for each.
        threshold = self.threshold.expand(len(encoder_bias))
        return {"architecture": "jumprelu"}, {"b_enc": encoder_bias, "threshold": threshold}
