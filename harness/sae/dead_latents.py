"""Latents that no longer fire, and the auxiliary loss that revives them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_DEAD_TOKENS = 10_000_000
_REFRESH_STEPS = 10


class DeadLatents:
    """Counts for each latent the tokens since it last fired; dead are those above `dead_tokens`.

    Counted in tokens, not steps, so that the batch size does not decide who is dead.
    """

    def __init__(self, n_latents: int, dead_tokens: int, device: torch.device) -> None:
        self.dead_tokens = dead_tokens
        self.tokens_since_fired = torch.zeros(n_latents, dtype=torch.long, device=device)
        self._n_updates = 0

    def update(self, fired: Bool[Tensor, " m"], n_tokens: int) -> None:
        """Take note of a batch."""
        self.tokens_since_fired = torch.where(fired, 0, self.tokens_since_fired + n_tokens)
        # Listing them makes the program wait for an accelerator, so it is not done at every step.
        if self._n_updates % _REFRESH_STEPS == 0:
            self.indices = self.now()
        self._n_updates += 1

    def now(self) -> Int[Tensor, " dead"]:
        """The latents that are dead at this moment."""
        return (self.tokens_since_fired >= self.dead_tokens).nonzero().squeeze(1)


def auxk_loss(
    pre: Float[Tensor, "b dead"], decoder: Float[Tensor, "dead d"], residual: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """AuxK: the dead latents learn to reconstruct what the others leave (Gao et al. 2024, arXiv 2406.04093, A.2).

        ‖e − ê‖² / ‖e − mean e‖²,    ê = TopK_aux(pre)·decoder

    with e = y − ŷ, a constant here, k_aux = d/2, and no bias in ê; times α = 1/32 where it joins the main loss. The
    ratio is of sums over the batch, as in OpenAI's code; 0 where e does not vary, as in a batch of one row. As in the
    paper's formula there is no ReLU: it would leave latents that are negative on all rows without a gradient, and in
    a ReLU SAE all dead ones are.
    """
    n_kept = min(residual.shape[1] // 2, pre.shape[1])
    top = pre.topk(n_kept, dim=1)
    codes = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    variation = (residual - residual.mean(dim=0)).square().sum()
    weight = torch.where(variation > 0, 1 / variation, 0)
    return weight * (residual - codes @ decoder).square().sum()
