"""Evaluation `dictionary_health`: how far the directions of a dictionary differ from each other.

The m latents' rows of the dictionary are scaled to norm 1, since the length of a row is a matter of the unit of its
code. A latent's nearest is the largest cosine to another latent; where codes are signed it is the largest |cosine|,
for a direction and its opposite are then one latent. Cosines have no unit.

    nearest_cosine         mean over latents of their nearest; grows with m / d, so compare dictionaries of one shape
    collinear_share        share of latents whose nearest is above .9
    duplicate_share        share of latents whose nearest is above .999: an angle below 2.6 degrees
    effective_rank         exp(−Σ p ln p), p = σ / Σσ the normalised singular values of the scaled dictionary; from 1
                           to min(m, d), in dimensions
    effective_rank_share   effective_rank / min(m, d)

Sources: SAEBench too reports the largest cosine to another latent (Karvonen et al. 2025, arXiv 2503.09532); the
effective rank is that of Roy & Vetterli 2007 (The effective rank: a measure of effective dimensionality), there of any
matrix as it is. No row of activations is read. Whether another seed finds the same directions takes two dictionaries:
similarity `latent_matching`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

import harness

COLLINEAR = 0.9
DUPLICATE = 0.999
_BLOCK_COSINES = 2**24
"""Cosines in memory at once: for many latents not all m² of them."""


class DictionaryHealth:
    """Evaluates the dictionary alone, without rows or codes."""

    def __init__(self, config: object) -> None: ...

    @torch.no_grad()
    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """One table row per metric of the list above; all are null where a latent has no direction."""
        if decomposition.dictionary is None:
            raise harness.Undefined(f"{type(decomposition).__name__} has no dictionary")
        dictionary = decomposition.dictionary.detach().double().cpu()
        m, d = dictionary.shape
        if not torch.isfinite(dictionary).all():
            raise harness.PluginError(f"{type(decomposition).__name__}.dictionary holds NaN or infinite values.")
        norms = dictionary.norm(dim=1, keepdim=True)
        n_zero = int((norms == 0).sum())
        no_direction = f"{n_zero} of {m} latents have a dictionary row of norm 0" if n_zero else None
        reason = "there are no latents" if m == 0 else no_direction
        alone = reason or ("there is one latent" if m == 1 else None)
        directions = dictionary / norms
        # All cosines take m² d products: in float64 they would take twice as long and tell no more.
        on_device = directions.to(decomposition.dictionary.device, torch.float32)
        nearest = torch.empty(0) if alone else nearest_cosines(on_device, decomposition.signed).double().cpu()
        rank = None if reason else effective_rank(directions)
        return [
            _row("nearest_cosine", m, alone, lambda: nearest.mean()),
            _row("collinear_share", m, alone, lambda: (nearest > COLLINEAR).double().mean()),
            _row("duplicate_share", m, alone, lambda: (nearest > DUPLICATE).double().mean()),
            _row("effective_rank", m, reason, lambda: rank, higher_is_better=None),
            _row("effective_rank_share", m, reason, lambda: rank and rank / min(m, d), higher_is_better=None),
        ]


def nearest_cosines(directions: Float[Tensor, "m d"], signed: bool) -> Float[Tensor, " m"]:
    """The largest cosine of each latent to another one, or the largest |cosine| where codes are signed."""
    m = len(directions)
    found = []
    size = max(1, _BLOCK_COSINES // m)
    for start in range(0, m, size):
        cosines = directions[start : start + size] @ directions.T
        if signed:
            cosines.abs_()
        cosines.diagonal(start).fill_(-torch.inf)
        found.append(cosines.amax(dim=1))
    return torch.cat(found).clamp(-1, 1)


def effective_rank(directions: Float[Tensor, "m d"]) -> float:
    """The exponential of the entropy of the singular values as shares of their sum."""
    singular = torch.linalg.svdvals(directions)
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


def _row(
    metric: str, n: int, reason: str | None, compute: Callable[[], object], higher_is_better: bool | None = False
) -> harness.TableRow:
    if reason is not None:
        return harness.TableRow(metric, None, n, higher_is_better, reason)
    return harness.TableRow(metric, float(compute()), n, higher_is_better)  # type: ignore[arg-type]
