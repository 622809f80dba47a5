"""ReLU SAE: a penalty on the sum of the codes makes them sparse (Bricken et al. 2023; Conerly et al. 2024)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.methods import ReLUSAEConfig
from plugins.methods.sae.learner import Forward, set_gradients
from plugins.methods.sae.steering import PenaltySAE
from plugins.methods.sae.weights import SAEDecomposition, Weights


class ReLUSAE(PenaltySAE):
    """Loss: mean ‖y − ŷ‖² + λ·Σ_j f_j·‖decoder row j‖, plus AuxK for dead latents.

    Rows y have mean norm 1, so λ is in units of the rows' typical norm. Weighting each code by the norm of its
    decoder row leaves nothing to gain from small codes on long rows; the norms are folded into the codes when saved.
    """

    name = "relu_sae"
    short_run_peak = 2e-3
    unit_decoder = False
    first_weight = 0.05
    config: ReLUSAEConfig

    def start(self, info: harness.Info) -> None:
        super().start(info)
        self.weights.soften()

    def n_active(self, y: Float[Tensor, "h d"]) -> Float[Tensor, ""]:
        return (self.weights.pre_activations(y) > 0).sum()

    def forward(self, y: Float[Tensor, "b d"]) -> Forward:
        def loss_of(*leaves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            weights = Weights(*leaves)
            pre = weights.pre_activations(y)
            codes = pre.relu()
            error = weights.decode(codes) - y
            penalty = (codes.sum(dim=0) * torch.linalg.vector_norm(weights.decoder, dim=1)).sum()
            return (error.square().sum() + self.penalty.value * penalty) / self.batch_rows, pre, error

        loss, pre, error = set_gradients(list(self.weights), loss_of)
        return Forward(pre, error, (pre > 0).any(dim=0), loss)

    def decomposition(self, weights: Weights, training: dict[str, float]) -> harness.Decomposition:
        return ReLUDecomposition(weights, training | {"l1": self.penalty.value.item()})


class ReLUDecomposition(SAEDecomposition):
    """Codes are the positive pre-activations, all m of them."""

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(self.pre_activations(x).relu())
