"""Integrated gradients on the straight path from clean to patched activations of one site.

The effect of replacing x by x' is ∫ g(x + α (x' − x)) da · (x' − x) (Sundararajan et al. 1703.01365; Hanna et al.
2403.17806), with the mean of g at the midpoints of equal steps in place of the integral. A decoder that is affine keeps
straight paths straight: one gradient serves all decompositions of a site, and the effect of latent i is
Σ_t (f'_i − f_i)_t (g_t · d_i), that of the error Σ_t g_t · (ε' − ε)_t.

That all effects of a site add up to that of replacing it whole is the check (completeness): `gap` is the share by which
they don't. Steps are doubled until it is below `MAX_GAP`. One gradient at the clean end, as attribution patching takes
it, misses what saturates: of a sharp attention head's effect of −2 it finds 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.contracts.runs import Runs

MAX_GAP = 0.05
FIRST_STEPS = 4
MAX_STEPS = 128
_ROUNDING = 1e-6


@dataclass(frozen=True)
class OnPath:
    """A batch of pairs at one site: both ends of the path, and what is measured."""

    runs: Runs
    """Runs of the clean windows."""
    site: str
    clean: Float[Tensor, "b t d"]
    patch: Float[Tensor, "b t d"]
    is_open: Bool[Tensor, "b t"]
    """True for tokens that are replaced."""
    measure: Callable[[Float[Tensor, "b v"]], Float[Tensor, " b"]]

    def at(self, share: float) -> Float[Tensor, "b t d"]:
        """The point of the path that lies at a share of its length."""
        between = self.clean + share * (self.patch - self.clean)
        return torch.where(self.is_open[..., None], between, self.clean)

    def replaced(self) -> Float[Tensor, " b"]:
        """The measure with the whole site as in the patch, less that of the clean windows."""
        return self.measure(self.runs.logits({self.site: partial(_constant, self.at(1))})) - self.measure(
            self.runs.logits()
        )

    def gradient(self, n_steps: int) -> Float[Tensor, "b t d"]:
        """The mean gradient at the midpoints of so many steps; of 0 steps the gradient at the clean end."""
        total = torch.zeros_like(self.clean, dtype=torch.float64)
        for place in [(step + 0.5) / n_steps for step in range(n_steps)] or [0.0]:
            edits = {self.site: partial(_constant, self.at(place))}
            total += self.runs.gradients([self.site], self._total, edits)[self.site].double()
        return total / max(n_steps, 1)

    def along(self, gradient: Float[Tensor, "b t d"]) -> Float[Tensor, " b"]:
        """The sum of all effects at the site, by a gradient."""
        return (gradient * (self.at(1) - self.clean).double()).sum(dim=(1, 2))

    def _total(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, ""]:
        return self.measure(logits).sum()


@dataclass(frozen=True)
class PathGradients:
    """The mean gradients of a site's batches, and how well they add up."""

    gradients: list[Float[Tensor, "b t d"]]
    n_steps: int
    gap: float
    """|Σ of all effects − effect of replacing the site| as a share of the latter."""


def path_gradients(batches: Sequence[OnPath], n_steps: int = FIRST_STEPS, max_steps: int = MAX_STEPS) -> PathGradients:
    """Gradients by as many steps as it takes, from `n_steps` to `max_steps`, for the gap to be below `MAX_GAP`."""
    replaced = float(torch.cat([batch.replaced() for batch in batches]).sum())
    while True:
        gradients = [batch.gradient(n_steps) for batch in batches]
        found = float(sum(batch.along(own).sum() for batch, own in zip(batches, gradients, strict=True)))
        gap = abs(found - replaced) / max(abs(replaced), _ROUNDING)
        if gap < MAX_GAP or not 0 < 2 * n_steps <= max_steps:
            return PathGradients([own.float() for own in gradients], n_steps, gap)
        n_steps *= 2


def _constant(new: Float[Tensor, "b t d"], _: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    return new
