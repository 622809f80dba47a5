"""SAEs whose sparsity comes from a penalty: its weight is fixed, or steered towards a target L0."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods.sae import PenaltySAEConfig, fast_paths
from harness.plugins.methods.sae.descent import Descending

TOLERANCE = 0.25
"""Share of the target L0 that may be missed without a warning: few rows are held out of small streams."""

FIRST_L0 = 64


class PenaltySAE(Descending):
    """SAEs with a penalty, whose weight follows the L0 of rows kept out of training where a `target_l0` is given."""

    config: PenaltySAEConfig
    first_weight: float
    """The penalty's weight λ to start from, if it is steered."""

    def start(self, info: harness.Info) -> None:
        super().start(info)
        fast_paths.prepare(self.weights.encoder)
        self.holds_out = self.config.target_l0 is not None
        fixed = self.config.fixed()[1]
        weight = self.first_weight if fixed is None else fixed
        self.penalty = PenaltyWeight(weight, self.schedule.n_steps, info.device)
        self._held_out_l0: list[Tensor] = []

    def see_first(self, y: Float[Tensor, "b d"]) -> None:
        """Silence all but as many latents as the target says, or 64: short runs need not wait for the penalty to.

        And codes are sparse from the first step on, so that the exact gradient takes one product of size b·m·d.
        """
        pre = self.weights.pre_activations(y)
        l0 = min(self.config.target_l0 or FIRST_L0, pre.shape[1] / 2)
        self.start_above(pre.flatten().topk(max(1, round(l0 * len(y)))).values[-1].clamp(min=1e-3))

    @abstractmethod
    def start_above(self, threshold: Float[Tensor, ""]) -> None:
        """Let latents be active where their pre-activation is, so far, above the threshold."""

    @abstractmethod
    def n_active(self, y: Float[Tensor, "h d"]) -> Float[Tensor, ""]:
        """Number of codes ≠ 0 in all these rows together."""

    def see_held_out(self, x: Float[Tensor, "h d"]) -> None:
        assert self.config.target_l0 is not None  # else nothing is held out
        self._held_out_l0.append(self.n_active(self.units.enter(x)) / len(x))
        self.penalty.steer(self._held_out_l0[-1], self.config.target_l0)

    def finish(self) -> harness.SAEDecomposition:
        if self.config.target_l0 is not None:
            self._check_l0(self.config.target_l0)
        return super().finish()

    def _check_l0(self, target: float) -> None:
        if not self._held_out_l0:
            raise self.none_held_out("target_l0", f"more text, or {self.config.fixed()[0]} instead")
        last = self._held_out_l0[-max(1, len(self._held_out_l0) // 10) :]
        reached = torch.stack(last).double().mean().item()
        if abs(reached - target) > TOLERANCE * target:
            warnings.warn(
                f"{self.name}: the L0 of rows kept out of training came to {reached:.3g} for a target_l0 of "
                f"{target:g}: {self.step} steps were too few. Give more passes or rows, or smaller batch_rows.",
                RuntimeWarning,
                stacklevel=2,
            )


class PenaltyWeight:
    """λ: fixed, or steered towards an L0. A tensor, so that steering does not wait for an accelerator.

    Steered, log λ = e + rate · Σ e with e = L0 / target − 1, at most 1: what is proportional to the error answers at
    once, where the sum alone would swing (on 10k rows it ended at an L0 of 69 for a target of 40), and the sum finds
    the λ that holds the target. Not with the logarithm of the ratio: a few rows at a time have an L0 that varies, its
    logarithm is too low on average, and λ would end at an L0 a tenth too high.
    """

    E_FOLDS = 20
    """Largest change of log λ in a run: enough from any start, and slow enough for the weights to follow."""
    MAX_RATE = 0.1

    def __init__(self, first: float, n_steps: int, device: torch.device) -> None:
        self._rate = min(self.MAX_RATE, self.E_FOLDS / n_steps)
        self._sum = torch.tensor(log(first), dtype=torch.float64, device=device)
        self._error = torch.zeros_like(self._sum)

    @property
    def value(self) -> Float[Tensor, ""]:
        return (self._sum + self._error).exp()

    def steer(self, l0: Float[Tensor, ""], target_l0: float) -> None:
        """Raise λ where more latents fire than wanted, lower it where fewer do."""
        self._error = (l0 / target_l0 - 1).double().clamp(max=1)
        self._sum = self._sum + self._rate * self._error
