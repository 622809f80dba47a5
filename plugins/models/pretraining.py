"""Training of a small language model that can be killed at any moment: it resumes, and ends with the same bits.

AdamW (β .9 and .95, weight decay .1 on matrices), linear warm-up over a twentieth of the steps, cosine decay to a tenth
of the peak rate, gradients clipped to norm 1, no dropout, float32. Windows of `context` tokens are cut from one row of
tokens; each epoch has all of them in an order drawn from (seed, epoch).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness import HarnessError, save_tensors, take_up_tensors

RECIPE: dict[str, Any] = {
    "betas": (0.9, 0.95),
    "weight_decay": 0.1,
    "clipped_norm": 1.0,
    "warm_up_share": 0.05,
    "last_rate_share": 0.1,
}
SECONDS_BETWEEN_STATES = 30.0
SECONDS_BETWEEN_LINES = 10.0
_EVALUATED_TOGETHER = 32
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Pretraining:
    """A model on its way through `n_steps` steps; `state_path` holds how far it has come.

    Args:
        model: in float32, on the device to train on; its initial weights are those of step 0.
        windows: to learn from.
        n_steps: of the whole training, which the learning rate depends on.
        batch_windows: windows of a step.
        peak_rate: the highest learning rate.
        seed: draws the order of the windows.
        state_path: a safetensors file, replaced as a whole.
        label: what lines of progress start with.
    """

    model: PreTrainedModel
    windows: Int[Tensor, "w t"]
    n_steps: int
    batch_windows: int
    peak_rate: float
    seed: int
    state_path: Path
    label: str
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """The loss before each step, in nats per token."""
    seconds: float = 0.0
    """Seconds of training, in all processes together."""

    def __post_init__(self) -> None:
        parameters = list(self.model.parameters())  # tied weights are one
        decay = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": RECIPE["weight_decay"]}
        others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        self._optimiser = torch.optim.AdamW([decay, others], lr=self.peak_rate, betas=RECIPE["betas"], fused=True)
        self._order: tuple[int, Int[np.ndarray, " w"]] | None = None
        self._load_state()

    def go_on(self, until: int, checkpoints: Collection[int], keep: Callable[[], None]) -> None:
        """Train up to step `until`; `keep` is called at each of the steps `checkpoints`.

        The state is saved now and then, and before `keep`: no later training comes by what was kept again.
        """
        saved = told = started = time.monotonic()
        first, seconds = self.step, self.seconds
        while True:
            if self.step in checkpoints:
                self._save_state()
                keep()
            if self.step >= until:
                return
            self._take_step()
            now = time.monotonic()
            self.seconds = seconds + now - started
            if now - told >= SECONDS_BETWEEN_LINES:
                self._tell((self.step - first) / (now - started), until)
                told = now
            if now - saved >= SECONDS_BETWEEN_STATES:
                self._save_state()
                saved = now

    def learning_rate(self, step: int) -> float:
        """The learning rate of the step after `step`."""
        warm_up: int = math.ceil(RECIPE["warm_up_share"] * self.n_steps)
        if step < warm_up:
            return self.peak_rate * (step + 1) / warm_up
        last: float = RECIPE["last_rate_share"]
        done = (step - warm_up) / max(1, self.n_steps - warm_up)
        return self.peak_rate * (last + (1 - last) * (1 + math.cos(math.pi * done)) / 2)

    def batch(self, step: int) -> Int[Tensor, "b t"]:
        """The windows of the step after `step`."""
        n = len(self.windows)
        places = range(step * self.batch_windows, (step + 1) * self.batch_windows)
        return self.windows[[int(self._epoch(place // n)[place % n]) for place in places]]

    def _epoch(self, epoch: int) -> Int[np.ndarray, " w"]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.windows))
        return self._order[1]

    @torch.enable_grad()
    def _take_step(self) -> None:
        device = next(self.model.parameters()).device
        loss = token_losses(self.model, self.batch(self.step).to(device)).mean()
        self.losses.append(loss.item())
        if not math.isfinite(self.losses[-1]):
            raise HarnessError(f"{self.label}: the loss is {self.losses[-1]} at step {self.step}. Try another seed.")
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), RECIPE["clipped_norm"])
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.step += 1

    def _tell(self, steps_per_second: float, until: int) -> None:
        tokens = steps_per_second * self.batch_windows * self.windows.shape[1]
        left = (until - self.step) / steps_per_second
        print(
            f"{self.label}: step {self.step} of {until}, loss {self.losses[-1]:.2f} nats, {tokens:,.0f} tokens/s, "
            f"{left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )

    def _save_state(self) -> None:
        if self.step == 0:  # follows from the seed
            return
        tensors = {}
        for name, parameter in self.model.named_parameters():
            tensors[f"parameter/{name}"] = parameter.detach()
            tensors |= {f"{moment}/{name}": self._optimiser.state[parameter][moment] for moment in _MOMENTS}
        standing = {"step": self.step, "losses": self.losses, "seconds": self.seconds}
        save_tensors(self.state_path, tensors, standing)

    @torch.no_grad()
    def _load_state(self) -> None:
        """Take up the last state; where there is none, or a damaged one, the training begins anew."""
        found = take_up_tensors(self.state_path, f"{self.label}: the training begins anew.")
        if found is None:
            return
        tensors, standing = found
        self.step, self.losses, self.seconds = standing["step"], standing["losses"], standing["seconds"]
        for name, parameter in self.model.named_parameters():
            parameter.copy_(tensors[f"parameter/{name}"])
            moments = {moment: tensors[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in _MOMENTS}
            n_steps = torch.tensor(float(self.step), dtype=torch.float32, device=parameter.device)
            self._optimiser.state[parameter] = {"step": n_steps, **moments}


def token_losses(model: nn.Module, windows: Int[Tensor, "b t"]) -> Float[Tensor, " n"]:
    """The cross-entropy in nats of every token but the first of each window, given those before it."""
    logits = model(input_ids=windows).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none")


@torch.no_grad()
def mean_loss(model: nn.Module, windows: Int[Tensor, "w t"]) -> float:
    """The mean loss per token."""
    device = next(model.parameters()).device
    losses = [token_losses(model, batch.to(device)).double() for batch in windows.split(_EVALUATED_TOGETHER)]
    return float(torch.cat(losses).mean())


def cut_windows(tokens: Int[Tensor, " n"], context: int) -> Int[Tensor, "w t"]:
    """Consecutive windows of `context` tokens; those left over at the end are dropped."""
    n = len(tokens) // context
    return tokens[: n * context].view(n, context)
