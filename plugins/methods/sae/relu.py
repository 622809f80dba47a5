"""ReLU SAE: a penalty on the sum of the codes makes them sparse (Bricken et al. 2023; Conerly et al. 2024)."""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.methods import ReLUSAEConfig
from plugins.methods.sae.learner import Forward, SAELearner
from plugins.methods.sae.weights import SAEDecomposition, Weights


class ReLUSAE(SAELearner):
    """Loss: mean ‖y − ŷ‖² + λ·Σ_j f_j·‖decoder row j‖, plus AuxK for dead latents.

    Rows y have mean norm 1, so λ is in units of the rows' typical norm. Weighting each code by the norm of its
    decoder row leaves nothing to gain from small codes on long rows; the norms are folded into the codes when saved.

    With `target_l0`, λ follows the L0 of the batches: its logarithm changes by a share of log(L0 / target) per step.
    """

    name = "relu_sae"
    short_run_peak = 2e-3
    unit_decoder = False
    config: ReLUSAEConfig

    def start(self, info: harness.Info) -> None:
        super().start(info)
        # Half of the m latents fire at first, so ŷ ≈ (m/2d)·y. If that overshoots, the first steps silence too many.
        self.weights.encoder *= min(1.0, 2 * info.width / self.config.n_latents)
        self._l1 = L1Weight(self.config.l1, self.config.target_l0, self.schedule.n_steps, info.device)

    def forward(self, y: Float[Tensor, "b d"]) -> Forward:
        with torch.enable_grad():
            leaves = Weights(*(weight.detach().requires_grad_() for weight in self.weights))
            pre = torch.addmm(leaves.encoder_bias, y, leaves.encoder.T)
            codes = pre.relu()
            error = torch.addmm(leaves.decoder_bias, codes, leaves.decoder) - y
            penalty = (codes.sum(dim=0) * torch.linalg.vector_norm(leaves.decoder, dim=1)).sum()
            loss = (error.square().sum() + self._l1.value * penalty) / self.batch_rows
            gradients = torch.autograd.grad(loss, list(leaves))
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        active = codes > 0
        self._l1.update(active.sum() / len(y))
        return Forward(pre.detach(), error.detach(), active.any(dim=0), loss.detach())

    def decomposition(self, weights: Weights, training: dict[str, float]) -> harness.Decomposition:
        return ReLUDecomposition(weights, training | {"l1": self._l1.value.item()})


class L1Weight:
    """λ: fixed, or steered towards an L0. A tensor, so that steering does not wait for an accelerator."""

    START = 0.05
    E_FOLDS = 20
    """How far λ can move in a run: far enough from any start, slowly enough for the weights to follow."""
    MAX_RATE = 0.1

    def __init__(self, l1: float | None, target_l0: float | None, n_steps: int, device: torch.device) -> None:
        self._target_l0 = target_l0
        self._rate = min(self.MAX_RATE, self.E_FOLDS / n_steps)
        self._log = torch.tensor(log(l1 if l1 is not None else self.START), dtype=torch.float64, device=device)

    @property
    def value(self) -> Float[Tensor, ""]:
        return self._log.exp()

    def update(self, l0: Float[Tensor, ""]) -> None:
        """Raise λ where more latents fire than wanted, lower it where fewer do."""
        if self._target_l0 is not None:
            too_many = (l0 / self._target_l0).log().clamp(-1, 1)
            self._log = self._log + self._rate * too_many


class ReLUDecomposition(SAEDecomposition):
    """Codes are the positive pre-activations, all m of them."""

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(self.pre_activations(x).relu())
