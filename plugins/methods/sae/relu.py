"""ReLU SAE: a penalty on the sum of the codes makes them sparse (Bricken et al. 2023; Conerly et al. 2024)."""

from __future__ import annotations

import warnings
from math import log

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import harness
from plugins.methods import ReLUSAEConfig
from plugins.methods.sae.learner import Forward, SAELearner
from plugins.methods.sae.weights import SAEDecomposition, Weights

HELD_OUT_ONE_IN = 32
TOLERANCE = 0.25
"""Of the target L0, before a warning: few rows are kept out of small streams, and their mean is rough."""


class ReLUSAE(SAELearner):
    """Loss: mean ‖y − ŷ‖² + λ·Σ_j f_j·‖decoder row j‖, plus AuxK for dead latents.

    Rows y have mean norm 1, so λ is in units of the rows' typical norm. Weighting each code by the norm of its
    decoder row leaves nothing to gain from small codes on long rows; the norms are folded into the codes when saved.

    With `target_l0`, λ follows an L0: see `L1Weight`. One row in 32 is kept out of training for it, because rows that
    are replayed come to need fewer latents than new ones: on 30k rows of SmolLM2, 20 passes steered by the L0 of
    trained rows to 40 gave 45 on held-out documents.
    """

    name = "relu_sae"
    short_run_peak = 2e-3
    unit_decoder = False
    config: ReLUSAEConfig

    def start(self, info: harness.Info) -> None:
        super().start(info)
        # Half of the m latents fire at first, so ŷ ≈ (m/2d)·y. If that overshoots, the first steps silence too many.
        self.weights.encoder *= min(1.0, 2 * info.width / self.config.n_latents)
        self._l1 = L1Weight(self.config.l1, self.schedule.n_steps, info.device)
        self._held_out_l0: list[Tensor] = []

    def partial_fit(self, batch: harness.Batch) -> None:
        if self.config.target_l0 is None:
            super().partial_fit(batch)
            return
        held_out = is_held_out(batch.rows)
        trained, others = (torch.from_numpy(np.flatnonzero(rows)).to(batch.x.device) for rows in (~held_out, held_out))
        if len(trained):
            super().partial_fit(harness.Batch(batch.x[trained], lambda: batch.rows[~held_out].reset_index(drop=True)))
        if len(others) and self._units is not None:
            pre = torch.addmm(self.weights.encoder_bias, self._units.enter(batch.x[others]), self.weights.encoder.T)
            self._held_out_l0.append((pre > 0).sum() / len(others))
            self._l1.steer(self._held_out_l0[-1], self.config.target_l0)

    def finish(self) -> harness.Decomposition:
        if self.config.target_l0 is not None:
            self._check_l0(self.config.target_l0)
        return super().finish()

    def _check_l0(self, target: float) -> None:
        if not self._held_out_l0:
            raise harness.ConfigError(
                f"relu_sae: target_l0 needs rows that are kept out of training, one in {HELD_OUT_ONE_IN}, and among so "
                "few rows there was none. Give more text, or l1 instead."
            )
        last = self._held_out_l0[-max(1, len(self._held_out_l0) // 10) :]
        reached = torch.stack(last).double().mean().item()
        if abs(reached - target) > TOLERANCE * target:
            warnings.warn(
                f"relu_sae: the L0 of rows kept out of training came to {reached:.3g} for a target_l0 of {target:g}: "
                f"{self._step} steps were too few. Give more passes or rows, or smaller batch_rows.",
                RuntimeWarning,
                stacklevel=2,
            )

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
        return Forward(pre.detach(), error.detach(), (codes > 0).any(dim=0), loss.detach())

    def decomposition(self, weights: Weights, training: dict[str, float]) -> harness.Decomposition:
        return ReLUDecomposition(weights, training | {"l1": self._l1.value.item()})


def is_held_out(rows: pd.DataFrame) -> Bool[np.ndarray, " b"]:
    """True for the rows that no pass trains on: a hash of their identity decides."""
    identity = pd.util.hash_pandas_object(rows[["document", "window", "position"]], index=False)
    return identity.to_numpy() % HELD_OUT_ONE_IN == 0


class L1Weight:
    """λ: fixed, or steered towards an L0. A tensor, so that steering does not wait for an accelerator.

    Steered, log λ = e + rate · Σ e with e = log(L0 / target), no further than one e-fold: what is proportional to the
    error answers at once, where the sum alone would swing (on 10k rows it ended at an L0 of 69 for a target of 40),
    and the sum finds the λ that holds the target.
    """

    START = 0.05
    E_FOLDS = 20
    """How far λ can move in a run: far enough from any start, slowly enough for the weights to follow."""
    MAX_RATE = 0.1

    def __init__(self, l1: float | None, n_steps: int, device: torch.device) -> None:
        self._rate = min(self.MAX_RATE, self.E_FOLDS / n_steps)
        self._sum = torch.tensor(log(self.START if l1 is None else l1), dtype=torch.float64, device=device)
        self._error = torch.zeros_like(self._sum)

    @property
    def value(self) -> Float[Tensor, ""]:
        return (self._sum + self._error).exp()

    def steer(self, l0: Float[Tensor, ""], target_l0: float) -> None:
        """Raise λ where more latents fire than wanted, lower it where fewer do."""
        self._error = (l0 / target_l0).double().log().clamp(-1, 1)
        self._sum = self._sum + self._rate * self._error


class ReLUDecomposition(SAEDecomposition):
    """Codes are the positive pre-activations, all m of them."""

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        return harness.Codes(self.pre_activations(x).relu())
