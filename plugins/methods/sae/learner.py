"""What every SAE learner does around its own loss: units, schedule, dead latents, optimiser, folding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import harness
from plugins.methods import SAEConfig
from plugins.methods.sae.dead import ALPHA, MAX_DEAD_TOKENS, DeadLatents, auxk_loss
from plugins.methods.sae.schedule import Schedule
from plugins.methods.sae.weights import SAEDecomposition, Units, Weights

_CHECK_STEPS = 100


@dataclass
class Forward:
    """What a kind tells of one batch, besides the gradients that it leaves in the weights' `grad`."""

    pre: Float[Tensor, "b m"]
    """Pre-activations."""
    error: Float[Tensor, "b d"]
    """ŷ − y."""
    fired: Bool[Tensor, " m"]
    """Whether a latent is above 0 in at least one row."""
    loss: Float[Tensor, ""]


class SAELearner(ABC):
    """Trains with Adam on mini-batches of a replayed stream. A kind gives what is open here."""

    name: str
    short_run_peak: float
    """The learning rate that suits runs of 2,000 steps or fewer."""
    unit_decoder = True
    """Whether decoder rows keep unit norm in training; saved rows have it in any case."""

    def __init__(self, config: SAEConfig) -> None:
        self.config = config
        self.passes = self.batch_rows = 1  # until `start` knows the rows

    def start(self, info: harness.Info) -> None:
        self.schedule = Schedule.of(self.config, info.n_rows, self.short_run_peak)
        self.passes, self.batch_rows = self.schedule.passes, self.schedule.batch_rows
        self.weights = Weights.initial(self.config.n_latents, info)
        self.dead = DeadLatents(self.config.n_latents, min(info.n_rows, MAX_DEAD_TOKENS), info.device)
        encoder, *others = self.weights
        decay = self.schedule.repeated_share
        groups = [{"params": [encoder], "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=self.schedule.peak, fused=True)
        self._mean, self._units = info.mean(), None
        self._step = 0
        self._losses: list[Tensor] = []

    @torch.no_grad()
    def partial_fit(self, batch: harness.Batch) -> None:
        if self._units is None:
            self._units = Units.of(self._mean, batch.x)
        y = self._units.enter(batch.x)
        forward = self.forward(y)
        self.dead.update(forward.fired, len(y))
        self._revive(y, forward)
        self._descend()
        self._watch(forward.loss)

    def finish(self) -> harness.Decomposition:
        self._check_losses()
        training = {"steps": self._step, "dead_latent_share": len(self.dead.now()) / self.config.n_latents}
        return self.decomposition(self.weights.folded(self._units), training)

    @abstractmethod
    def forward(self, y: Float[Tensor, "b d"]) -> Forward:
        """Reconstruct a batch and set the `grad` of all weights."""

    @abstractmethod
    def decomposition(self, weights: Weights, training: dict[str, float]) -> SAEDecomposition:
        """The decomposition that has these folded weights."""

    def _revive(self, y: Float[Tensor, "b d"], forward: Forward) -> None:
        """Add the gradient of AuxK, which only dead latents get."""
        dead = self.dead.indices
        if not len(dead):
            return
        with torch.enable_grad():
            pre = forward.pre[:, dead].requires_grad_()
            decoder = self.weights.decoder[dead].requires_grad_()
            loss = ALPHA * auxk_loss(pre, decoder, -forward.error)
            pre_grad, decoder_grad = torch.autograd.grad(loss, (pre, decoder))
        self.weights.encoder.grad.index_add_(0, dead, pre_grad.T @ y)
        self.weights.encoder_bias.grad.index_add_(0, dead, pre_grad.sum(dim=0))
        self.weights.decoder.grad.index_add_(0, dead, decoder_grad)

    def _descend(self) -> None:
        if self.unit_decoder:
            self.weights.drop_radial_gradient()
        for group in self._optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate(self._step)
        self._optimiser.step()
        if self.unit_decoder:
            self.weights.normalise()

    def _watch(self, loss: Float[Tensor, ""]) -> None:
        """Losses are looked at now and then only: each look makes the program wait for an accelerator."""
        self._losses.append(loss)
        self._step += 1
        if len(self._losses) == _CHECK_STEPS:
            self._check_losses()

    def _check_losses(self) -> None:
        losses, self._losses = self._losses, []
        broken = (~torch.isfinite(torch.stack(losses))).nonzero() if losses else ()
        if len(broken):
            step = self._step - len(losses) + int(broken[0]) + 1
            raise harness.HarnessError(
                f"{self.name}: the loss is NaN or infinite at step {step} of {self.schedule.n_steps}. Try a lower "
                f"learning_rate (now {self.schedule.peak:g}), and look for rows of extreme norm."
            )
