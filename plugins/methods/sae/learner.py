"""What every SAE learner does around its own loss: units, schedule, dead latents, optimiser, folding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.sae import SAEConfig
from harness.plugins.methods.sae.dead import ALPHA, MAX_DEAD_TOKENS, DeadLatents, auxk_loss
from harness.plugins.methods.sae.held_out import set_apart
from harness.plugins.methods.sae.schedule import Schedule
from harness.plugins.methods.sae.weights import SAEDecomposition, Units, Weights

_CHECK_STEPS = 100


@dataclass
class Forward:
    """What a kind tells of one batch, besides the gradients that it leaves in the parameters' `grad`."""

    pre: Float[Tensor, "b m"]
    """Pre-activations, in bfloat16 where codes are chosen in it."""
    error: Float[Tensor, "b d"]
    """ŷ − y."""
    fired: Bool[Tensor, " m"]
    """Whether a latent is active in at least one row."""
    loss: Float[Tensor, ""]


class SAELearner(ABC):  # has abstract methods; the empty ones are hooks
    """Trains with Adam on mini-batches of a replayed stream. A kind gives what is open here."""

    name: str
    short_run_peak: float
    """The learning rate that suits runs of 2,000 steps or fewer."""
    unit_decoder = True
    """Whether decoder rows keep unit norm in training; saved rows have it in any case."""
    resumable = True
    holds_out = False
    """Whether one row in 32 goes to `see_held_out` instead of the training."""

    def __init__(self, config: SAEConfig) -> None:
        self.config = config
        self.passes = self.batch_rows = 1  # until `start` knows the rows

    def start(self, info: harness.Info) -> None:
        self.begin(info, Weights.initial(self.config.n_latents, info), Units(info.mean()))

    def begin(self, info: harness.Info, weights: Weights, units: Units) -> None:
        """Start from these weights."""
        self.schedule = Schedule.of(self.config, info.n_rows, self.short_run_peak)
        self.passes, self.batch_rows = self.schedule.passes, self.schedule.batch_rows
        self.weights, self.units = weights, units
        self.dead = DeadLatents(len(weights.encoder), min(info.n_rows, MAX_DEAD_TOKENS), info.device)
        self._step = 0
        self._losses: list[Tensor] = []
        self._optimiser = self._adam()

    @torch.no_grad()
    def partial_fit(self, batch: harness.Batch) -> None:
        x, held_out = set_apart(batch) if self.holds_out else (batch.x, batch.x[:0])
        if len(x):
            self._train(x)
        if len(held_out) and self.units.scale is not None:
            self.see_held_out(held_out)

    def finish(self) -> harness.Decomposition:
        self._check_losses()
        training = {"steps": self._step, "dead_latent_share": len(self.dead.now()) / self.config.n_latents}
        return self.decomposition(self.weights.folded(self.units), training)

    @abstractmethod
    def forward(self, y: Float[Tensor, "b d"]) -> Forward:
        """Reconstruct a batch and set the `grad` of all parameters."""

    @abstractmethod
    def decomposition(self, weights: Weights, training: dict[str, float]) -> SAEDecomposition:
        """The decomposition that has these folded weights."""

    def own_parameters(self) -> list[Tensor]:
        """What a kind learns besides the weights."""
        return []

    def see_first(self, y: Float[Tensor, "b d"]) -> None:  # noqa: B027  # most kinds need no preparation
        """Prepare for training, knowing the first batch."""

    def see_held_out(self, x: Float[Tensor, "h d"]) -> None:  # noqa: B027  # some kinds hold nothing out
        """Take note of rows that are not trained on."""

    def revive(self, dead: Int[Tensor, " dead"], y: Float[Tensor, "b d"], forward: Forward) -> None:
        """Add the gradient of AuxK, which only dead latents get."""
        with torch.enable_grad():
            pre = self._pre_activations(dead, y, forward).requires_grad_()
            decoder = self.weights.decoder[dead].requires_grad_()
            loss = ALPHA * auxk_loss(pre, decoder, -forward.error)
            pre_grad, decoder_grad = torch.autograd.grad(loss, (pre, decoder))
        self.weights.encoder.grad.index_add_(0, dead, pre_grad.T @ y)
        self.weights.encoder_bias.grad.index_add_(0, dead, pre_grad.sum(dim=0))
        self.weights.decoder.grad.index_add_(0, dead, decoder_grad)

    def _pre_activations(
        self, latents: Int[Tensor, " l"], y: Float[Tensor, "b d"], forward: Forward
    ) -> Float[Tensor, "b l"]:
        if forward.pre.dtype == y.dtype:
            return forward.pre[:, latents]
        return torch.addmm(self.weights.encoder_bias[latents], y, self.weights.encoder[latents].T)

    def descend(self) -> None:
        """Take a step along the gradients."""
        if self.unit_decoder:
            self.weights.drop_radial_gradient()
        self._optimise()
        if self.unit_decoder:
            self.weights.normalise()

    def _train(self, x: Float[Tensor, "b d"]) -> None:
        if self.units.scale is None:
            self.units.measure(x)
            self.see_first(self.units.enter(x))
        y = self.units.enter(x)
        forward = self.forward(y)
        self.dead.update(forward.fired, y.shape[-2])
        if len(self.dead.indices):
            self.revive(self.dead.indices, y, forward)
        self.descend()
        self._watch(forward.loss)

    def groups(self, parameters: Iterable[Tensor]) -> list[dict[str, Any]]:
        """What Adam is given: only the encoder, the first of the parameters, decays."""
        encoder, *others = parameters
        return [
            {"params": [encoder], "weight_decay": self.schedule.repeated_share},
            {"params": others, "weight_decay": 0.0},
        ]

    def _optimise(self) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate(self._step)
        self._optimiser.step()

    def _adam(self) -> torch.optim.Optimizer:
        groups = self.groups([*self.weights, *self.own_parameters()])
        return torch.optim.AdamW(groups, lr=self.schedule.peak, fused=True)

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
