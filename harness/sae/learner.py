"""The training of SAEs around a kind's own loss: units, schedule, dead latents, optimiser, folding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.contracts.method import Batch, Info
from harness.errors import ConfigError, HarnessError
from harness.sae.config import SAEConfig
from harness.sae.dead_latents import MAX_DEAD_TOKENS, DeadLatents, auxk_loss
from harness.sae.decomposition import SAEDecomposition
from harness.sae.held_out import ONE_IN, set_apart
from harness.sae.schedule import SAESchedule
from harness.sae.weights import SAEUnits, SAEWeights, gradient_of

_CHECK_STEPS = 100


@dataclass
class SAEForward:
    """Outcome of one batch, besides the gradients that are left in the parameters' `grad`."""

    error: Float[Tensor, "b d"]
    """The reconstruction error ŷ − y."""
    fired: Bool[Tensor, " m"]
    """True for latents that are active in at least one row."""
    loss: Float[Tensor, ""]
    pre: Float[Tensor, "b m"] | None = None
    """Pre-activations of all latents, if computed as precisely as the rows are; else AuxK computes those it needs."""


class SAELearner(ABC):
    """Trains with Adam on mini-batches of a replayed stream.

    Rows are trained on as y, in units of their own (`SAEUnits`). A kind of SAE gives `decomposition`, and either

    - `encode` and `loss`, of which autograd takes the gradients; or
    - `forward`, which sets the gradients by hand: faster where codes are sparse (`Support`). If it gives `encode` and
      `loss` as well, `harness check` compares the gradients by hand with those of autograd.

    Schedule, dead latents, the norm of decoder rows and folding are the same for both.
    """

    short_run_peak = 4e-3
    """The learning rate that suits runs of 2,000 steps or fewer."""
    unit_decoder = True
    """True if decoder rows keep unit norm in training; saved rows have it in any case."""
    auxk_weight = 1 / 32
    """The weight of AuxK, the loss that revives dead latents, beside the kind's own."""
    resumable = True
    holds_out = False
    """True if one row in 32 goes to `see_held_out` instead of the training."""

    def __init__(self, config: SAEConfig) -> None:
        self.config = config
        self.passes = self.batch_rows = 1  # until `start` knows the rows

    @cached_property
    def name(self) -> str:
        """The name in errors and warnings: the class's own, unless a kind gives another."""
        return type(self).__name__

    def start(self, info: Info) -> None:
        self.begin(info, SAEWeights.initial(self.config.n_latents, info), SAEUnits(info.mean()))

    def begin(self, info: Info, weights: SAEWeights, units: SAEUnits) -> None:
        """Start from these weights."""
        self.schedule = SAESchedule.of(self.config, info.n_rows, self.short_run_peak)
        self.passes, self.batch_rows = self.schedule.passes, self.schedule.batch_rows
        self.weights, self.units = weights, units
        self.dead = DeadLatents(len(weights.encoder), min(info.n_rows, MAX_DEAD_TOKENS), info.device)
        self.step = 0
        """Steps taken so far, of `schedule.n_steps`."""
        self._losses: list[Tensor] = []
        self._optimiser = self._adam()

    @torch.no_grad()
    def partial_fit(self, batch: Batch) -> None:
        x, held_out = set_apart(batch) if self.holds_out else (batch.x, batch.x[:0])
        if len(x):
            self._train(x)
        if len(held_out) and self.units.is_measured:
            self.see_held_out(held_out)

    def finish(self) -> SAEDecomposition:
        self._check_losses()
        if not self.units.is_measured:
            raise self._none_trained_on()
        training = {"steps": self.step, "dead_latent_share": len(self.dead.now()) / self.config.n_latents}
        return self.decomposition(self.weights.folded(self.units), training)

    @abstractmethod
    def decomposition(self, weights: SAEWeights, training: dict[str, float]) -> SAEDecomposition:
        """The decomposition that has these folded weights."""

    def encode(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        """The codes of rows, differentiable by `weights` and by a kind's own parameters."""
        raise NotImplementedError(
            f"{type(self).__name__}: give encode(y) and loss(y, codes, error), or forward(y) that sets the gradients."
        )

    def loss(self, y: Float[Tensor, "b d"], codes: Float[Tensor, "b m"], error: Float[Tensor, "b d"]) -> Tensor:
        """The loss as a mean over the rows, where the codes decode to y + error. Here ‖error‖²."""
        return error.square().sum(dim=1).mean()

    def forward(self, y: Float[Tensor, "b d"]) -> SAEForward:
        """Reconstruct a batch, and set the `grad` of all parameters to the batch's gradient times its rows' share of
        `batch_rows`: the smaller batch that ends a pass weighs less, since rows weigh the same.
        """
        parameters = self.parameters()
        with torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_(True)
            codes = self.encode(y)
            error = codes @ self.weights.decoder + self.weights.decoder_bias - y
            loss = self.loss(y, codes, error)
            share = len(y) / self.batch_rows
            gradients = torch.autograd.grad(loss * share, parameters, allow_unused=True, materialize_grads=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(False).grad = gradient
        return SAEForward(error.detach(), (codes != 0).any(dim=0), loss.detach())

    def parameters(self) -> list[Tensor]:
        """Tensors that are learnt, the encoder first."""
        return [*self.weights, *self.own_parameters()]

    def own_parameters(self) -> list[Tensor]:
        """Tensors that a kind learns besides the weights."""
        return []

    def see_first(self, y: Float[Tensor, "b d"]) -> None:  # noqa: B027  # most kinds need no preparation
        """Prepare for training, knowing the first batch."""

    def see_held_out(self, x: Float[Tensor, "h d"]) -> None:  # noqa: B027  # some kinds hold nothing out
        """Take note of rows that are not trained on."""

    def none_held_out(self, parameter: str, way_out: str) -> ConfigError:
        """The error of a stream too short to have rows held out, which a parameter needs."""
        if not self.units.is_measured:  # rows are held out of training only once there is any
            return self._none_trained_on()
        return ConfigError(
            f"{self.name}: {parameter} needs rows kept out of training, one in {ONE_IN}, and among so few rows there "
            f"was none. Give {way_out}."
        )

    def _none_trained_on(self) -> ConfigError:
        held_out = f": one in {ONE_IN} is kept out of training, and here that was all" if self.holds_out else ""
        return ConfigError(f"{self.name}: there was no row to train on{held_out}. Give more text.")

    def revive(self, dead: Int[Tensor, " dead"], y: Float[Tensor, "b d"], forward: SAEForward) -> None:
        """Add the gradient of AuxK, which only dead latents get."""
        with torch.enable_grad():
            pre = self._pre_activations(dead, y, forward).requires_grad_()
            decoder = self.weights.decoder[dead].requires_grad_()
            loss = self.auxk_weight * auxk_loss(pre, decoder, -forward.error)
            pre_grad, decoder_grad = torch.autograd.grad(loss, (pre, decoder))
        gradient_of(self.weights.encoder).index_add_(0, dead, pre_grad.T @ y)
        gradient_of(self.weights.encoder_bias).index_add_(0, dead, pre_grad.sum(dim=0))
        gradient_of(self.weights.decoder).index_add_(0, dead, decoder_grad)

    def _pre_activations(
        self, latents: Int[Tensor, " l"], y: Float[Tensor, "b d"], forward: SAEForward
    ) -> Float[Tensor, "b l"]:
        if forward.pre is not None:
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
        if not self.units.is_measured:
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
        """The parameters as Adam is given them: only the encoder, the first of them, decays."""
        encoder, *others = parameters
        return [
            {"params": [encoder], "weight_decay": self.schedule.repeated_share},
            {"params": others, "weight_decay": 0.0},
        ]

    def _optimise(self) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate(self.step)
        self._optimiser.step()

    def _adam(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(self.parameters()), lr=self.schedule.peak, fused=True)

    def _watch(self, loss: Float[Tensor, ""]) -> None:
        """Losses are looked at now and then only: each look makes the program wait for an accelerator."""
        self._losses.append(loss)
        self.step += 1
        if len(self._losses) == _CHECK_STEPS:
            self._check_losses()

    def _check_losses(self) -> None:
        losses, self._losses = self._losses, []
        broken = (~torch.isfinite(torch.stack(losses))).nonzero() if losses else torch.empty(0)
        if len(broken):
            step = self.step - len(losses) + int(broken[0]) + 1
            raise HarnessError(
                f"{self.name}: the loss is NaN or infinite at step {step} of {self.schedule.n_steps}. Try a lower "
                f"learning_rate (now {self.schedule.peak:g}), and look for rows of extreme norm."
            )
