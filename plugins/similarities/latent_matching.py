"""Match between the latents of two decompositions, each latent of one with at most one latent of the other.

    s = mean over the min(m_a, m_b) matched pairs of how alike the two latents are

The matching is the one with the largest sum, an optimal assignment. Where codes of either side are signed, the absolute
value stands for how alike two latents are: a latent and its opposite are then one.

By cosine of their rows of the dictionaries: suites compare the seeds of each site, which says how stable a method is
(Paulo & Belrose 2025, arXiv 2501.16615), since bases of two sites or models have nothing in common. `chance` is the
value for two dictionaries of the same shapes with random directions: many latents in few dimensions match well by luck
alone, and fits that have hardly begun score little more.

By activation, Pearson's correlation of their codes over n rows that stand for the same tokens on both sides (as Li et
al. 2015, arXiv 1511.07543, match neurons): whatever the models, sites and widths. A latent whose code does not vary
over these rows, which is most often one that never fires on them, correlates with nothing and is left out: m_a and m_b
count the others. `silent_share_a` and `silent_share_b` are the shares of the latents of each side that are left out;
without any left on a side the value is undefined. The value for shuffled rows is what luck gives: with few rows, or
latents that fire on few of them, that is much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import harness
from harness.plugins.assignment import check_sides, optimal_assignment
from harness.plugins.similarities import LatentMatchingConfig

_CHANCE_SEED = 0
# Of so many rows the codes of all latents are held densely, in float64.
_BLOCK_ROWS = 512


def make(config: LatentMatchingConfig) -> CosineMatching | ActivationMatching:
    """Make the matching by cosine, which compares directions as they are, or by activation, which needs rows."""
    return CosineMatching() if config.by == "cosine" else ActivationMatching()


class _Matching:
    higher_is_more_similar = True
    range = (-1.0, 1.0)
    symmetric = True
    invariant_to: frozenset[str] = frozenset()
    streams = False


class CosineMatching(_Matching):
    """`s(a, b)` is the mean cosine of matched latents; `s.chance(a, b)` that of random directions."""

    def __call__(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        return _matched_cosine(_dictionary(a, "a"), _dictionary(b, "b"), a.signed or b.signed)

    def chance(self, a: harness.Decomposition, b: harness.Decomposition) -> float:
        """The value for Gaussian directions in the place of both, drawn the same each time."""
        generator = torch.Generator().manual_seed(_CHANCE_SEED)
        shapes = [_dictionary(side, name).shape for side, name in ((a, "a"), (b, "b"))]
        one, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        return _matched_cosine(one, other, a.signed or b.signed)


class ActivationMatching(_Matching):
    """`s(a, b, x, y)` is the mean correlation of matched latents: a encodes x and b encodes y, row by row of one token.

    In memory are the codes as they are encoded, a block of them densely, and m_a × m_b correlations, all in float64.
    """

    @torch.no_grad()
    def __call__(
        self,
        a: harness.Decomposition,
        b: harness.Decomposition,
        x: Float[Tensor, "n d1"],
        y: Float[Tensor, "n d2"],
    ) -> float:
        if len(x) != len(y):
            raise harness.ConfigError(f"x has {len(x)} rows, y has {len(y)}; row i of both must stand for one token.")
        codes = _Activations.of(a, x, "a"), _Activations.of(b, y, "b")
        for side, one in zip("ab", codes, strict=True):
            if not one.varies.any():
                raise harness.Undefined(
                    f"none of the {len(one.varies)} latents of {side} varies over the {len(x)} rows"
                )
        check_sides(*(int(one.varies.sum()) for one in codes))
        return _matched(_correlations(*codes).cpu(), a.signed or b.signed)

    @torch.no_grad()
    def silent_share_a(self, a: harness.Decomposition, b: object, x: Float[Tensor, "n d1"], y: object) -> float:
        """The share of the latents of a that do not vary over the rows."""
        return 1 - float(_Activations.of(a, x, "a").varies.double().mean())

    @torch.no_grad()
    def silent_share_b(self, a: object, b: harness.Decomposition, x: object, y: Float[Tensor, "n d2"]) -> float:
        """The share of the latents of b that do not vary over the rows."""
        return 1 - float(_Activations.of(b, y, "b").varies.double().mean())


@dataclass(frozen=True)
class _Activations:
    """The codes of n rows in blocks, and of each latent whether it varies over them, and its mean in float64."""

    blocks: list[harness.Codes]
    varies: Bool[Tensor, " m"]
    mean: Float[Tensor, " m"]

    @classmethod
    def of(cls, decomposition: harness.Decomposition, x: Float[Tensor, "n d"], side: str) -> _Activations:
        name, m = type(decomposition).__name__, decomposition.n_latents
        if not m:
            raise harness.Undefined(f"{side} has no latents")
        if not len(x):
            raise harness.Undefined("no rows")
        blocks, ranges, total = [], [], torch.zeros(m, dtype=torch.float64, device=x.device)
        for rows in x.split(_BLOCK_ROWS):
            # A clone: a method may write into the rows it is given, which are the caller's, and the other side's too.
            blocks.append(decomposition.encode(rows.clone()))
            dense = blocks[-1].to_dense(m)
            if not torch.isfinite(dense).all():
                raise harness.PluginError(f"{name}.encode returned NaN or infinite codes of the rows of {side}.")
            ranges.append(torch.stack([dense.amin(dim=0), -dense.amax(dim=0)]))
            total += dense.double().sum(dim=0)
        # By its least and largest code, which have no rounding error as a variance has.
        low, minus_high = torch.stack(ranges).amin(dim=0)
        return cls(blocks, low < -minus_high, total / len(x))

    def centred(self) -> Iterator[Float[Tensor, "b v"]]:
        """Block by block the codes of the latents that vary, around their means."""
        for block in self.blocks:
            yield block.to_dense(len(self.varies))[:, self.varies].double() - self.mean[self.varies]


def _correlations(a: _Activations, b: _Activations) -> Float[Tensor, "v w"]:
    n_a, n_b = (int(side.varies.sum()) for side in (a, b))
    products, squares_a, squares_b = a.mean.new_zeros(n_a, n_b), a.mean.new_zeros(n_a), a.mean.new_zeros(n_b)
    # Centred before they are multiplied: of latents that are always active, hardly anything would be left afterwards.
    for one, other in zip(a.centred(), b.centred(), strict=True):
        products.addmm_(one.T, other)
        squares_a += one.square().sum(dim=0)
        squares_b += other.square().sum(dim=0)
    return products.div_(squares_a.sqrt()[:, None]).div_(squares_b.sqrt())


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
    check_sides(len(a), len(b))
    return _matched((a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T, signed)


def _matched(similarities: Float[Tensor, "m q"], signed: bool) -> float:
    """The mean over matched pairs; overwrites what it is given."""
    matrix = (similarities.abs_() if signed else similarities).clamp_(-1, 1).numpy()
    return float(matrix[optimal_assignment(matrix)].mean())
