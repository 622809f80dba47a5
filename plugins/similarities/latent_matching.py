"""How well the directions of two dictionaries match, each latent of one with at most one latent of the other.

    s = mean over the min(m_a, m_b) matched pairs of the cosine between their rows of the dictionaries

The matching is the one with the largest sum, an optimal assignment. Where codes of either side are signed, |cosine|
stands for the cosine: a direction and its opposite are then one latent. Suites compare the seeds of each site, which
says how stable a method is (Paulo & Belrose 2025, arXiv 2501.16615): bases of two sites or models have nothing in
common.

`chance` is the value for two dictionaries of the same shapes with random directions: many latents in few dimensions
match well by luck alone, and fits that have hardly begun score little more.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.assignment import optimal_assignment

_CHANCE_SEED = 0


class LatentMatching:
    """`s(a, b)` is the mean cosine of matched latents; `s.chance(a, b)` that of random directions."""

    higher_is_more_similar = True
    range = (-1.0, 1.0)
    symmetric = True
    invariant_to: frozenset[str] = frozenset()
    streams = False

    def __init__(self, config: object) -> None: ...

    def __call__(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        return _matched_cosine(_dictionary(a, "a"), _dictionary(b, "b"), a.signed or b.signed)

    def chance(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        """The value for Gaussian directions in the place of both, drawn the same each time."""
        generator = torch.Generator().manual_seed(_CHANCE_SEED)
        shapes = [_dictionary(side, name).shape for side, name in ((a, "a"), (b, "b"))]
        one, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        return _matched_cosine(one, other, a.signed or b.signed)


def _dictionary(decomposition: harness.Decomposition, side: str) -> Float[Tensor, "m d"]:
    if decomposition.dictionary is None:
        name = type(decomposition).__name__
        raise harness.ConfigError(f"latent_matching: {side} ({name}) has no dictionary. Compare methods that have one.")
    dictionary = decomposition.dictionary.detach().cpu().double()
    if not len(dictionary):
        raise harness.Undefined(f"{side} has no latents")
    n_zero = int((~dictionary.any(dim=1)).sum())
    if n_zero:
        raise harness.Undefined(f"{n_zero} of {len(dictionary)} latents of {side} have a dictionary row of norm 0")
    return dictionary


def _matched_cosine(a: Float[Tensor, "m d"], b: Float[Tensor, "q d"], signed: bool) -> float:
    if a.shape[1] != b.shape[1]:
        raise harness.Undefined(f"the widths differ: {a.shape[1]} and {b.shape[1]}")
    cosines = (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T
    similarities = (cosines.abs() if signed else cosines).clamp(-1, 1).numpy()
    return float(similarities[optimal_assignment(similarities)].mean())
