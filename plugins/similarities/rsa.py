"""Representational similarity analysis: are the same pairs of rows far apart on both sides?

    s = corr(D_x(i, j), D_y(i, j)) over the n(n−1)/2 pairs i < j

after Kriegeskorte, Mur & Bandettini 2008 ("Representational similarity analysis", Frontiers in Systems Neuroscience 2,
4). D, the representational dissimilarity matrix of a side, holds for two of its rows

    correlation: 1 − Pearson's r of the two over their features, in [0, 2]. It changes where the features are rotated or
        moved each by its own amount, since both change the mean over features.
    euclidean: their distance. It changes under neither.

and corr is Spearman's ρ (Pearson's r of the ranks, ties having the mean of their ranks) or Pearson's r. The defaults,
correlation and spearman, are those of the paper and of ReSi (Klabunde et al. 2024, arXiv 2408.00531). In [−1, 1]; near
0 for unrelated rows, with whatever number of them.

Ranks need all pairs at once: each side has 4n² bytes of dissimilarities, and seven times that are in use while they are
sorted, 0.7 GB for 5,000 rows; more rows are refused. Instead, `n_rows` compares so many, drawn once with the seed and
without replacement: pairs of a random sample are pairs like any others, so the value estimates that of all rows, and as
a parameter `n_rows` stands beside it in every table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.similarities import RsaConfig
from harness.plugins.similarities.inputs import check_aligned, check_finite, check_n_rows

# Spread of float64 numbers of size 1 that is rounding error.
_ROUNDING = 1e-13


class Rsa:
    """`s(x, y)` in float64, from all pairs of at most `max_rows` rows."""

    higher_is_more_similar = True
    range = (-1.0, 1.0)
    symmetric = True
    streams = False
    max_rows = 5_000

    def __init__(self, config: RsaConfig) -> None:
        self.config = config

    @property
    def invariant_to(self) -> frozenset[str]:
        """The maps that change no value: distances ignore rotation and origin; correlations over features don't."""
        rigid = {"orthogonal", "translation"} if self.config.dissimilarity == "euclidean" else set()
        return frozenset({"isotropic_scale", "permutation"} | rigid)

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        return self.of_sides(self.of_side("x", x), self.of_side("y", y))

    @torch.no_grad()
    def of_side(self, side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, " p"]:
        """Dissimilarities of the pairs, or their ranks, around their mean and with norm 1."""
        rows = self._drawn(rows)
        advice = "Compare a sample by the parameter n_rows, or give it fewer rows."
        check_n_rows("rsa", len(rows), self.max_rows, advice)
        if len(rows) < 3:
            raise harness.Undefined(f"rsa compares distances of pairs and needs 3 rows, got {len(rows)}")
        check_finite(side, rows)
        return self._scores(side, rows)

    def of_sides(self, of_x: Float[Tensor, " p"], of_y: Float[Tensor, " p"]) -> float:
        """The correlation of the dissimilarities, or ranks, of both sides."""
        return max(-1.0, min(1.0, float(of_x.dot(of_y))))

    @torch.no_grad()
    def permuted(
        self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"], orders: Iterable[Int[Tensor, " n"]]
    ) -> Iterator[float]:
        """The value for each order of the rows of y, whose dissimilarities are found once; not of a sample of rows."""
        check_aligned(x, y)
        n_rows = self.config.n_rows
        if n_rows is not None and n_rows < len(x):
            yield from (self(x, y[order]) for order in orders)
            return
        of_x, of_y = self.of_side("x", x), self.of_side("y", y)
        upper = torch.ones(len(y), len(y), dtype=torch.bool, device=y.device).triu_(1)
        square = of_y.new_zeros(len(y), len(y)).masked_scatter_(upper, of_y)
        square += square.T.clone()
        for order in orders:
            yield self.of_sides(of_x, square[order][:, order][upper])

    def _drawn(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "s d"]:
        n_rows = self.config.n_rows
        if n_rows is None or n_rows >= len(rows):
            return rows
        places = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.config.seed))[:n_rows]
        return rows[places.sort().values.to(rows.device)]

    def _scores(self, side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, " p"]:
        scores = self._dissimilarities(side, rows.double())
        if scores.max() - scores.min() <= _ROUNDING * scores.max():
            raise harness.Undefined(
                f"all pairs of rows of {side} are equally dissimilar: there is nothing to correlate"
            )
        if self.config.compare == "spearman":
            scores = _ranks(scores)
        scores -= scores.mean()
        return scores.div_(torch.linalg.vector_norm(scores))

    def _dissimilarities(self, side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, " p"]:
        """The upper triangle of D, row by row."""
        # Not by a matrix product, whose rounding would part the ties of rows that are equal.
        if self.config.dissimilarity == "euclidean":
            return torch.pdist(rows)
        centred = rows - rows.mean(dim=1, keepdim=True)
        norms = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        n_flat = int((norms <= _ROUNDING * torch.linalg.vector_norm(rows, dim=1, keepdim=True)).sum())
        if n_flat:
            raise harness.Undefined(
                f"{n_flat} of {len(rows)} rows of {side} have the same value in all features, so they correlate with "
                "none; leave them out, or use dissimilarity='euclidean'"
            )
        # For unit vectors, 1 − u·v = ‖u − v‖²/2; rows that are multiples of each other differ by rounding only.
        return torch.threshold_(torch.pdist(centred.div_(norms)), _ROUNDING, 0.0).square_().div_(2)


def _ranks(values: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """The ranks of values, from 1 for the smallest; ties have the mean of their ranks. Overwrites the values."""
    ordered, order = values.sort()
    sizes = ordered.unique_consecutive(return_counts=True)[1]
    del ordered  # there are millions of pairs
    means = sizes.cumsum(0).to(values.dtype).sub_(sizes, alpha=0.5).add_(0.5)
    return values.scatter_(0, order, means.repeat_interleave(sizes))
